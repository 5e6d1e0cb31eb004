/** What lies in the bucket: sealed models whole, and nothing else. */
import { parseKeyFile } from '../../shared/sealed-model/key-file.ts';
import { classify, headsOf, type ObjectKind } from './classify.ts';
import { type AuditContext, withSeen } from './context.ts';
import type { Answer, Check } from './finding.ts';
import { fail, manual, pass, unknown, warn } from './finding.ts';
import type { ObjectListing, ObjectSample } from './snapshot.ts';

const SHOWN_MAX = 20;
const PARTS = ['payload', 'key.json', 'head', 'manifest.json'];

export const objectChecks: readonly (Check & { judge(context: AuditContext): Answer })[] = [
  {
    id: 'objects-sealed',
    title: 'Every object is part of a sealed model',
    severity: 'critical',
    why: 'An object that is not sealed is open to whoever reads the bucket, encrypted at rest or not, and to the host.',
    remedy: 'Seal it and publish it; then delete the object with all its versions.',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withListing(context, (kinds, listing) => {
        const wrong = kinds.filter(({ is }) => is.kind === 'unsealed');
        if (wrong.length > 0) return about(wrong, (is) => (is.kind === 'unsealed' ? is.what : ''));
        return wholeListing(kinds, listing) ?? pass(`${kinds.length} objects looked at`);
      }),
  },
  {
    id: 'objects-recovery',
    title: 'No recovery file was published',
    severity: 'high',
    why: "It is the owner's own wrap of a data key: with the recovery key, and without KMS or any enclave, it opens the model.",
    remedy: 'Delete the object with all its versions; keep the file where the recovery key is not.',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withListing(context, (kinds, listing) => {
        const wrong = kinds.filter(({ is }) => is.kind === 'recovery');
        if (wrong.length > 0) return about(wrong, () => 'a recovery file');
        return wholeListing(kinds, listing) ?? pass('none');
      }),
  },
  {
    id: 'objects-legacy',
    title: 'No model is in a legacy layout',
    severity: 'medium',
    why: 'Enclaves do not open these layouts, nobody signed them, and they bind their key to no measurement.',
    remedy: 'strongroom convert makes a sealed model of it.',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withListing(context, (kinds, listing) => {
        const found = kinds.filter(({ is }) => is.kind === 'legacy');
        if (found.length > 0) {
          const answer = about(found, (is) => (is.kind === 'legacy' ? is.format : ''));
          return { ...answer, outcome: 'WARNING' };
        }
        return wholeListing(kinds, listing) ?? pass('none');
      }),
  },
  {
    id: 'objects-whole',
    title: 'Every sealed model is whole',
    severity: 'low',
    why: 'An enclave that is told to load a model with a part missing does not start.',
    remedy: 'Publish the model again: it continues where it stopped.',
    securityHub: [],
    prowler: [],
    judge: (context) =>
      withListing(context, (kinds, listing) => {
        const models = new Map<string, Set<string>>();
        for (const { is } of kinds) {
          if (is.kind !== 'sealed') continue;
          models.set(is.model, (models.get(is.model) ?? new Set()).add(is.part));
        }
        const broken = [...models].flatMap(([model, parts]) => {
          const missing = PARTS.filter((part) => !parts.has(part));
          return missing.length === 0 ? [] : [`${model} has no ${missing.join(', ')}`];
        });
        if (broken.length > 0) return warn(broken.slice(0, SHOWN_MAX).join('; '));
        return wholeListing(kinds, listing) ?? pass(`${models.size} models`);
      }),
  },
  {
    id: 'bucket-key-separation',
    title: 'The key of the bucket is not the key of the models',
    severity: 'high',
    why: "S3 uses the bucket's key for everybody who may read (kms:ViaService). Under the same key, the rights for that and the attested release of data keys are one policy, and the stricter of the two must give way.",
    remedy: 'Use a key of its own for the bucket: strongroom bucket configure --kms-key ARN.',
    securityHub: [],
    prowler: [],
    judge: ({ snapshot }) =>
      withSeen(snapshot.encryption, ({ key }) => {
        if (!snapshot.objects.seen) return unknown(`objects could not be read: ${snapshot.objects.why}`);
        const found = snapshot.objects.value.objects.flatMap(keysOfWraps);
        if (key === undefined) return pass('the bucket has no key of its own that a model could share');
        const shared = found.find(({ keyArn }) => keyArn === key || keyArn.endsWith(`key/${key}`));
        if (shared !== undefined) return fail(`${shared.object} is wrapped by the bucket's own key ${key}`);
        if (found.length === 0) return pass('no key.json names a key');
        if (!key.includes(':key/'))
          return unknown(`the bucket names its key as ${key}: which key that is cannot be seen`);
        return pass(`models use ${new Set(found.map(({ keyArn }) => keyArn)).size} other keys`);
      }),
  },
  {
    id: 'kms-key-policy',
    title: 'The KMS keys are as they should be',
    severity: 'high',
    why: 'Who may use, delete or give away the keys decides more than the bucket.',
    remedy: 'Look at the policy, rotation and state of each key: strongroom policy, strongroom rotate.',
    securityHub: ['KMS.1', 'KMS.2', 'KMS.3', 'KMS.4', 'KMS.5'],
    prowler: [],
    judge: () => manual('not a setting of the bucket: aws kms get-key-policy for the keys named above'),
  },
];

interface Classified {
  readonly key: string;
  readonly is: ObjectKind;
}

function withListing(
  { snapshot }: AuditContext,
  judge: (kinds: readonly Classified[], listing: ObjectListing) => Answer,
): Answer {
  return withSeen(snapshot.objects, (listing) => {
    const heads = headsOf(listing.objects);
    return judge(
      listing.objects.map((sample) => ({ key: sample.key, is: classify(sample, heads) })),
      listing,
    );
  });
}

/** Nothing wrong was found, but not all was looked at: that is no PASS. */
function wholeListing(kinds: readonly Classified[], { complete }: ObjectListing): Answer | undefined {
  const unread = kinds.filter(({ is }) => is.kind === 'unread');
  const [first] = unread;
  if (first?.is.kind === 'unread') {
    const found = `${unread.length} objects could not be read, for example ${first.key}: ${first.is.why}`;
    return { outcome: 'UNKNOWN', found, objects: unread.slice(0, SHOWN_MAX).map(({ key }) => key) };
  }
  return complete
    ? undefined
    : unknown(`only the first ${kinds.length} objects were looked at (--objects N for more)`);
}

function about(wrong: readonly Classified[], what: (is: ObjectKind) => string): Answer {
  const shown = wrong.slice(0, SHOWN_MAX);
  const more = wrong.length > shown.length ? `, and ${wrong.length - shown.length} more` : '';
  return {
    ...fail(shown.map(({ key, is }) => `${key}: ${what(is)}`).join('; ') + more),
    objects: shown.map(({ key }) => key),
  };
}

function keysOfWraps({ key, begin }: ObjectSample): { readonly object: string; readonly keyArn: string }[] {
  if (!key.endsWith('/key.json') || !begin.seen) return [];
  try {
    return parseKeyFile(begin.value).wraps.map(({ keyArn }) => ({ object: key, keyArn }));
  } catch {
    return []; // what it is instead, objects-sealed says
  }
}
