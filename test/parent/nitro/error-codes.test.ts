import { describe, expect, it } from 'vitest';
import { explainNitroError, explainNitroExit } from '../../../parent/nitro/error-codes.ts';

/** As nitro-cli prints them (aws-nitro-enclaves-cli, src/common/mod.rs construct_error_message). */
const printed = (code: string) =>
  `Start allocating memory...\n[ ${code} ] Some words.\n\nFor more details, please visit https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#${code}\n\nIf you open a support ticket, please provide the error log found at "/var/log/nitro_enclaves/err2026-01-01T00:00:00.1+00:00.log"\n`;

describe("nitro-cli's error codes", () => {
  const all = Array.from({ length: 60 }, (_, index) => `E${String(index).padStart(2, '0')}`);
  it.each(all)('%s is explained, with something to do', (code) => {
    const explained = explainNitroError(printed(code));
    expect(explained?.code).toBe(code);
    expect(explained?.means).toMatch(/\.$/);
    expect(explained?.action).toMatch(/\.$/);
    expect(explained?.means).not.toContain('this release does not know');
  });

  it('of several codes the cause is explained and not what followed from it', () => {
    const text = `${printed('E39')}${printed('E27')}Failed connections: 1\n${printed('E39')}`;
    expect(explainNitroError(text)?.code).toBe('E27');
    expect(explainNitroError(printed('E39'))?.code).toBe('E39');
  });

  it('says what the driver refused when the backtrace says it', () => {
    const text = `${printed('E29')}Backtrace:\n  Action: Run Enclave\n  Subactions:\n    The enclave cannot start because full CPU cores have not been set\n`;
    expect(explainNitroError(text)).toMatchObject({
      code: 'E29',
      means: 'The enclave was given half a core.',
    });
  });

  it('names a code that it does not know', () => {
    expect(explainNitroError(printed('E97'))).toMatchObject({
      code: 'E97',
      action: 'Run nitro-cli explain --error-code E97.',
    });
  });

  it('is silent about text without a code', () => {
    expect(explainNitroError('')).toBeUndefined();
    expect(explainNitroError('E27 is mentioned, and #E27 in a link')).toBeUndefined();
  });

  it('knows a code by the exit status as well', () => {
    expect(explainNitroExit(27)?.code).toBe('E27');
    expect(explainNitroExit(9)?.code).toBe('E09');
    expect(explainNitroExit(137)).toBeUndefined();
  });
});
