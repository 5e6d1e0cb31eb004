/** The commands as their reader types them, against an S3 that stores and returns what it is told. */
import { join } from 'node:path';
import { GetBucketPolicyCommand, PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { newObject } from '../../../simulator/s3/objects.ts';
import { BUCKET, KMS_KEY, MIB, sealIris, type World, world } from '../../owner/publish/setup.ts';

const ACCOUNT = '111122223333';
const READERS = {
  Sid: 'Readers',
  Effect: 'Allow',
  Principal: { AWS: `arn:aws:iam::${ACCOUNT}:role/Host` },
  Action: 's3:GetObject',
  Resource: `arn:aws:s3:::${BUCKET}/*`,
};

let here: World;
beforeEach(async () => {
  here = await world();
});
afterEach(() => here[Symbol.asyncDispose]());

const bucket = (what: string, ...more: string[]) =>
  here.run('bucket', what, BUCKET, '--account', ACCOUNT, '--endpoint', here.s3.endpoint, ...more).done;

describe('strongroom bucket', () => {
  it('shows the plan, changes nothing; makes it with --apply, keeps what was there; then has nothing to do', async () => {
    const policy = JSON.stringify({ Version: '2012-10-17', Statement: [READERS] });
    await here.client.send(new PutBucketPolicyCommand({ Bucket: BUCKET, Policy: policy }));
    here.s3.configurations
      .get(BUCKET)
      ?.set(
        'lifecycle',
        '<Rule><ID>mine</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>9</Days></Expiration></Rule>',
      );
    const before = JSON.stringify([...(here.s3.configurations.get(BUCKET) ?? [])]);

    const planned = await bucket('configure', '--kms-key', KMS_KEY);
    expect(planned).toMatchObject({ code: 1, stdout: expect.stringContaining('nothing was changed') });
    for (const setting of [
      'publicAccessBlock',
      'ownership',
      'versioning',
      'encryption',
      'lifecycle',
      'policy',
    ]) {
      expect(planned.stdout).toMatch(new RegExp(`^${setting}$`, 'm'));
    }
    expect(planned.stdout).not.toContain('objectLock');
    expect(JSON.stringify([...(here.s3.configurations.get(BUCKET) ?? [])])).toBe(before);

    const lock = ['--object-lock', 'governance:30'];
    const applied = await bucket('configure', '--kms-key', KMS_KEY, ...lock, '--apply');
    expect(applied).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringContaining('as it should be'),
    });
    const { Policy } = await here.client.send(new GetBucketPolicyCommand({ Bucket: BUCKET }));
    expect(JSON.parse(Policy ?? '').Statement[0]).toEqual(READERS);
    expect(here.s3.configurations.get(BUCKET)?.get('lifecycle')).toContain('<ID>mine</ID>');

    here.asked.length = 0;
    const again = await bucket('configure', ...lock, '--apply', '--json');
    expect(again.code).toBe(0);
    expect(JSON.parse(again.stdout)).toMatchObject({ due: { steps: [] }, left: { steps: [], unseen: [] } });
    expect(here.asked.filter((line) => !line.startsWith('GET'))).toEqual([]);
  });

  it('passes its own audit, with a model published into it', async () => {
    expect(await bucket('configure', '--kms-key', KMS_KEY, '--apply')).toMatchObject({ code: 0 });
    const { folder } = await sealIris(join(here.folder, 'any-name'), { sizeBytes: MIB });
    await here.publish(folder);
    const { code, stdout } = await bucket('audit', '--json');
    const report = JSON.parse(stdout);
    expect(report.findings.filter(({ outcome }: { outcome: string }) => outcome === 'FAIL')).toEqual([]);
    expect(report.counts).toMatchObject({ FAIL: 0, UNKNOWN: 0 });
    expect(code).toBe(0);
  });

  it('finds what lies there unsealed, and says so in each format', async () => {
    here.s3.objects.set(`${BUCKET}/llama.gguf`, newObject(Buffer.from('GGUF....'), new Date()));
    const text = await bucket('audit');
    expect(text).toMatchObject({ code: 1, stdout: expect.stringContaining('llama.gguf: GGUF weights') });
    expect(text.stdout).toContain('Security Hub S3.5');
    const sarif = await bucket('audit', '--format', 'sarif');
    expect(sarif.code).toBe(1);
    expect(JSON.parse(sarif.stdout).runs[0].results.length).toBeGreaterThan(5);
  });

  it('does not pass what it was not let to see', async () => {
    expect(await bucket('configure', '--kms-key', KMS_KEY, '--apply')).toMatchObject({ code: 0 });
    here.s3.intercept = (request, response) => {
      if (!String(request.url).includes('?policy')) return false;
      response.writeHead(403, { 'content-type': 'application/xml' });
      response.end('<Error><Code>AccessDenied</Code><Message>no</Message></Error>');
      return true;
    };
    const audit = await bucket('audit');
    expect(audit).toMatchObject({ code: 3, stdout: expect.stringContaining('403 AccessDenied') });
    expect(await bucket('configure')).toMatchObject({
      code: 3,
      stdout: expect.stringContaining('cannot be seen'),
    });
  });

  it('stops where S3 refuses a change, and goes on from there', async () => {
    here.s3.intercept = (request, response) => {
      if (request.method !== 'PUT' || !String(request.url).includes('?ownershipControls')) return false;
      response.writeHead(400, { 'content-type': 'application/xml' });
      response.end('<Error><Code>InvalidBucketAclWithObjectOwnership</Code><Message>lists</Message></Error>');
      return true;
    };
    const refused = await bucket('configure', '--kms-key', KMS_KEY, '--apply');
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('InvalidBucketAcl') });
    here.s3.intercept = () => false;
    const next = await bucket('configure', '--kms-key', KMS_KEY);
    expect(next.stdout).not.toContain('publicAccessBlock');
    expect(await bucket('configure', '--kms-key', KMS_KEY, '--apply')).toMatchObject({ code: 0 });
  });

  it.each([
    [['configure'], 2, '--kms-key'],
    [['configure', '--kms-key', 'alias/models'], 2, 'ARN'],
    [['configure', '--kms-key', KMS_KEY.replace(ACCOUNT, '444455556666')], 2, 'of account 444455556666'],
    [['configure', '--kms-key', KMS_KEY, '--tls', '1.1'], 2, '1.2 or 1.3'],
    [['configure', '--kms-key', KMS_KEY, '--object-lock', 'forever'], 2, 'governance:DAYS'],
    [['audit', '--format', 'html'], 2, 'text, json, sarif'],
  ])('%j ends with %i and says %s', async ([what = '', ...more], code, text) => {
    expect(await bucket(what, ...more)).toMatchObject({ code, stderr: expect.stringContaining(text) });
  });

  it('says that a bucket is not there', async () => {
    const args = ['--account', ACCOUNT, '--endpoint', here.s3.endpoint];
    expect(await here.run('bucket', 'audit', 'no-such-bucket', ...args).done).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('BUCKET_UNREADABLE'),
    });
  });
});
