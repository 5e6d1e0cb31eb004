import { parseArgs } from 'node:util';
import { agesOfWraps, type WrapAge } from '../../owner/key-life/due.ts';
import { findSealedModels } from '../../owner/key-life/rewrap-all.ts';
import {
  changeRotation,
  type RotationChange,
  type RotationStatus,
  rotationStatus,
} from '../../owner/key-life/rotate.ts';
import { StrongroomError } from '../../shared/errors.ts';
import type { Command } from '../command.ts';
import { CommandError } from '../errors.ts';
import { kmsByRegion } from '../owner-kms.ts';
import { KMS_PLACE_HELP, kmsPlaceOf } from '../seal-options.ts';

export const command: Command = {
  name: 'rotate',
  summary: 'rotate a KMS key, and list the models whose wraps are due',
  help: `
Usage: strongroom rotate --kms-key ARN [--enable [--period DAYS] | --disable | --now]
       strongroom rotate FOLDER... [--kms-key ARN] [--ask-kms]

The first form changes the rotation of a KMS key and shows its status and history (an administrator's calls). A
rotation gives the key new material under the same ARN; what was wrapped before still opens, so no model has to be
touched. The second form lists the wraps of the sealed models below the folders, and which of them rest on older
material: those "strongroom rewrap" would move.

KMS does not tell the material of a wrap that it is shown. strongroom notes it in the label of each wrap that it
makes; that is a claim, and absent from wraps of other tools. --ask-kms is exact: KMS re-encrypts each wrap on its
own key, the result is thrown away, and CloudTrail has a record of it (a sealer's call).

Options:
      --kms-key ARN         the KMS key; with FOLDER, only wraps under it
      --enable              rotate automatically
      --period DAYS         how often, 90 to 2560 (AWS's default is 365)
      --disable             rotate automatically no more
      --now                 rotate now; KMS allows this 25 times in a key's life, and carries it out a little later
      --ask-kms             have KMS say which material each wrap rests on

${KMS_PLACE_HELP}

      --json                print status, history and wraps as JSON

Example:
  strongroom rotate --kms-key arn:aws:kms:eu-central-1:111122223333:key/KEY --enable --period 180
  strongroom rotate models/

Exit codes: 0 done, and no listed wrap is due; 1 refused, or some wrap is due; 2 usage or unusable input; 3 KMS not
reachable, or nothing says whether some wrap is due.
`,
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        'kms-key': { type: 'string' },
        enable: { type: 'boolean', default: false },
        period: { type: 'string' },
        disable: { type: 'boolean', default: false },
        now: { type: 'boolean', default: false },
        'ask-kms': { type: 'boolean', default: false },
        'kms-endpoint': { type: 'string' },
        'kms-ca': { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const keyArn = values['kms-key'];
    const change = changeOf(values);
    if (keyArn === undefined && (change !== undefined || positionals.length === 0)) {
      throw new CommandError('USAGE', 'rotate needs --kms-key ARN, or FOLDERs of sealed models.');
    }
    if (change !== undefined && positionals.length > 0) {
      throw new CommandError(
        'USAGE',
        'rotate either changes the rotation of a key or lists models in FOLDERs.',
      );
    }
    if (values['ask-kms'] && positionals.length === 0) {
      throw new CommandError('USAGE', '--ask-kms is for models in FOLDERs.');
    }
    using kms = kmsByRegion(kmsPlaceOf(values));
    if (positionals.length > 0) {
      const folders = await findSealedModels(positionals);
      const wraps = await agesOfWraps(folders, {
        keyArn,
        kmsKey: kms.kmsKey,
        askKms: values['ask-kms'],
        signal: io.signal,
      });
      io.stdout.write(values.json ? `${JSON.stringify({ wraps })}\n` : describeAges(wraps));
      return wraps.some(({ due }) => due === true) ? 1 : wraps.some(({ due }) => due === 'unknown') ? 3 : 0;
    }
    const kmsKey = await kms.kmsKey(keyArn as string);
    if (change !== undefined) await changeRotation(kmsKey, change, io.signal);
    const status = await statusAfter(change, () => rotationStatus(kmsKey, io.signal));
    io.stdout.write(values.json ? `${JSON.stringify(status)}\n` : describeStatus(status, change));
    return 0;
  },
};

/** A change that was made is not to be reported as one that failed, because its result could not be shown. */
async function statusAfter(
  change: RotationChange | undefined,
  read: () => Promise<RotationStatus>,
): Promise<RotationStatus> {
  try {
    return await read();
  } catch (error) {
    if (change === undefined || !(error instanceof StrongroomError)) throw error;
    throw new CommandError(
      'RESULT_UNSEEN',
      `KMS made the change (${change.kind}), but its status could not be read: ${error.message}`,
      error,
    );
  }
}

interface ChangeValues {
  readonly enable: boolean;
  readonly period?: string | undefined;
  readonly disable: boolean;
  readonly now: boolean;
}

function changeOf({ enable, period, disable, now }: ChangeValues): RotationChange | undefined {
  if ([enable, disable, now].filter(Boolean).length > 1) {
    throw new CommandError('USAGE', '--enable, --disable and --now are three things; give one.');
  }
  if (period !== undefined && !enable) throw new CommandError('USAGE', '--period is for --enable.');
  if (disable) return { kind: 'disable' };
  if (now) return { kind: 'now' };
  if (!enable) return undefined;
  const periodDays = period === undefined ? undefined : Number(period);
  if (
    periodDays === undefined ||
    (/^\d{2,4}$/.test(period as string) && periodDays >= 90 && periodDays <= 2560)
  ) {
    return { kind: 'enable', periodDays };
  }
  throw new CommandError('USAGE', `--period must be 90 to 2560 days, not ${JSON.stringify(period)}.`);
}

function describeStatus(status: RotationStatus, change: RotationChange | undefined): string {
  const { keyArn, automatic, periodDays, next, underWaySince, history } = status;
  const done = history.filter(({ at }) => at !== undefined);
  const lines = [
    `${keyArn}`,
    automatic
      ? `automatic rotation: every ${periodDays ?? '?'} days, next ${next ?? 'at a time that KMS does not tell'}`
      : 'automatic rotation: off ("strongroom rotate --enable" turns it on)',
    ...(underWaySince === undefined ? [] : [`a rotation on demand is under way since ${underWaySince}`]),
    done.length === 0 ? 'never rotated' : `rotated ${done.length} time(s):`,
    ...done.map(
      ({ at, type, material, current }) =>
        `  ${at}  ${type}  material ${material}${current ? '  current' : ''}`,
    ),
    ...(change?.kind === 'now'
      ? ['what was wrapped before still opens; "strongroom rewrap --all PREFIX" moves it to the new material']
      : []),
  ];
  return `${lines.join('\n')}\n`;
}

function describeAges(wraps: readonly WrapAge[]): string {
  const groups = Map.groupBy(wraps, ({ keyArn }) => keyArn);
  const lines = [...groups].flatMap(([keyArn, own]) => [
    keyArn,
    ...own.map((wrap) => {
      const state = wrap.due === 'unknown' ? 'unknown' : wrap.due ? 'due' : 'current';
      const when = wrap.wrappedAt === undefined ? 'no date' : `wrapped ${wrap.wrappedAt}`;
      const by = { label: 'by its label', kms: 'by KMS', nothing: 'its label does not say' }[wrap.knownFrom];
      return `  ${state.padEnd(7)}  ${wrap.folder}  ${wrap.name} version ${wrap.version}  ${when}  (${by})`;
    }),
  ]);
  const count = (due: WrapAge['due']): number => wraps.filter((wrap) => wrap.due === due).length;
  lines.push(
    `${wraps.length} wrap(s): ${count(true)} due, ${count(false)} current, ${count('unknown')} unknown`,
  );
  if (count(true) > 0) lines.push('"strongroom rewrap --all PREFIX" moves them to the newest material');
  if (count('unknown') > 0)
    lines.push('--ask-kms makes the unknown known; so does "strongroom rewrap", which also notes it');
  return `${lines.join('\n')}\n`;
}
