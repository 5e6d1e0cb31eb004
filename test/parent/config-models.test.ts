import { describe, expect, it } from 'vitest';
import { parseParentConfig } from '../../parent/config/config.ts';

const parse = (models: unknown) =>
  parseParentConfig(
    Buffer.from(
      JSON.stringify({
        format: 'strongroom-parent/1',
        link: { kind: 'vsock', enclaveCid: 16 },
        ingress: { host: '0.0.0.0', port: 7443 },
        egress: [],
        deployment: 'deployment.json',
        models,
        credentials: { kind: 'instance-role' },
      }),
    ),
    '/etc/strongroom',
  ).models;

const S3 = { kind: 's3', bucket: 'sealed-models', region: 'eu-central-1' };
const REGISTRY = { kind: 'registry', url: 'https://models.example.com/sealed' };

describe('where models come from', () => {
  it('is read with paths relative to the file', () => {
    expect(parse(S3)).toEqual(S3);
    const endpoint = 'https://bucket.vpce-1a2b.s3.eu-central-1.vpce.amazonaws.com';
    expect(parse({ ...S3, prefix: 'team/a', endpoint, ca: 'ca.pem' })).toEqual({
      ...S3,
      prefix: 'team/a',
      endpoint,
      ca: '/etc/strongroom/ca.pem',
    });
    expect(parse(REGISTRY)).toEqual(REGISTRY);
    expect(parse({ ...REGISTRY, ca: 'ca.pem', certificate: '/run/c.pem', key: 'k.pem' })).toEqual({
      ...REGISTRY,
      ca: '/etc/strongroom/ca.pem',
      certificate: '/run/c.pem',
      key: '/etc/strongroom/k.pem',
    });
  });

  it.each([
    { ...S3, endpoint: 'http://127.0.0.1:9000' },
    { ...S3, endpoint: 'http://[::1]:9000' },
    { ...S3, endpoint: 'https://minio.internal:443' },
    { ...S3, region: 'us-gov-west-1', bucket: 'a.b-c.d1' },
    { ...S3, prefix: "a_1/b-2/(c)'!*/x.y" },
    { ...REGISTRY, url: 'https://10.0.0.1' },
    { ...REGISTRY, url: 'https://[fd00::1]:8443/a/b~c_d.e' },
  ])('takes $endpoint $prefix $url $region', (models) => {
    expect(parse(models)).toEqual(models);
  });

  const refused: readonly (readonly [string, object, string])[] = [
    ['another kind', { ...S3, kind: 'gcs' }, 'models.kind'],
    ['an unknown member', { ...S3, path: 'x' }, 'models.path'],
    ['keys in the file', { ...S3, accessKeyId: 'x' }, 'models.accessKeyId'],
    ['no region', { kind: 's3', bucket: 'sealed-models' }, 'region'],
    ['a region that is none', { ...S3, region: 'eu-central-1.evil.example' }, 'models.region'],
    ['a region in capitals', { ...S3, region: 'EU-CENTRAL-1' }, 'models.region'],
    ['a short bucket', { ...S3, bucket: 'ab' }, 'models.bucket'],
    ['a bucket in capitals', { ...S3, bucket: 'Models' }, 'models.bucket'],
    ['a bucket by ARN', { ...S3, bucket: 'arn:aws:s3:::models' }, 'models.bucket'],
    ['a bucket that is an address', { ...S3, bucket: '10.0.0.1' }, 'models.bucket'],
    ['a bucket with empty labels', { ...S3, bucket: 'a..b' }, 'models.bucket'],
    ['a directory bucket', { ...S3, bucket: 'models--euc1-az1--x-s3' }, 'models.bucket'],
    ['an empty prefix', { ...S3, prefix: '' }, 'models.prefix'],
    ['a prefix with a closing slash', { ...S3, prefix: 'a/' }, 'models.prefix'],
    ['a prefix with an opening slash', { ...S3, prefix: '/a' }, 'models.prefix'],
    ['a prefix with two slashes', { ...S3, prefix: 'a//b' }, 'models.prefix'],
    ['a prefix that climbs', { ...S3, prefix: 'a/../b' }, 'models.prefix'],
    ['a prefix with escapes', { ...S3, prefix: 'a%2fb' }, 'models.prefix'],
    ['a prefix without end', { ...S3, prefix: 'a'.repeat(513) }, 'models.prefix'],
    ['plain HTTP to elsewhere', { ...S3, endpoint: 'http://10.0.0.1:9000' }, 'models.endpoint'],
    ['plain HTTP by name', { ...S3, endpoint: 'http://localhost:9000' }, 'models.endpoint'],
    ['an endpoint with a path', { ...S3, endpoint: 'https://s3.example.com/x' }, 'models.endpoint'],
    ['an endpoint with a closing slash', { ...S3, endpoint: 'https://s3.example.com/' }, 'models.endpoint'],
    ['another scheme', { ...S3, endpoint: 'ftp://s3.example.com' }, 'models.endpoint'],
    ['a registry over plain HTTP', { ...REGISTRY, url: 'http://127.0.0.1/models' }, 'models.url'],
    ['credentials in the URL', { ...REGISTRY, url: 'https://me:secret@models.example.com' }, 'models.url'],
    ['a query', { ...REGISTRY, url: 'https://models.example.com/a?b=c' }, 'models.url'],
    ['an empty query', { ...REGISTRY, url: 'https://models.example.com/a?' }, 'models.url'],
    ['a fragment', { ...REGISTRY, url: 'https://models.example.com/a#b' }, 'models.url'],
    ['a path that climbs', { ...REGISTRY, url: 'https://models.example.com/a/../b' }, 'models.url'],
    ['escapes', { ...REGISTRY, url: 'https://models.example.com/a%2f' }, 'models.url'],
    ['a closing slash', { ...REGISTRY, url: 'https://models.example.com/' }, 'models.url'],
    ['a backslash', { ...REGISTRY, url: 'https://models.example.com\\a' }, 'models.url'],
    ['a host in capitals', { ...REGISTRY, url: 'https://Models.example.com' }, 'models.url'],
    ['an odd spelling of an address', { ...REGISTRY, url: 'https://127.1/a' }, 'models.url'],
    ['a port that is none', { ...REGISTRY, url: 'https://models.example.com:65536' }, 'models.url'],
    ['a name with empty labels', { ...REGISTRY, url: 'https://a..b' }, 'models.url'],
    ['no host', { ...REGISTRY, url: 'https:///models' }, 'models.url'],
    ['a certificate without a key', { ...REGISTRY, certificate: 'c.pem' }, 'models'],
    ['a key without a certificate', { ...REGISTRY, key: 'k.pem' }, 'models'],
  ];
  it.each([
    'https://me:secret@models.example.com/a',
    'https://me:a/secret@models.example.com/a',
    'https://models.example.com/a?token=secret',
    'https://models.example.com/a?\nsecret',
  ])('is refused without repeating what may be a secret', (url) => {
    for (const models of [
      { ...REGISTRY, url },
      { ...S3, endpoint: url },
    ]) {
      expect(() => parse(models)).toThrow(
        expect.not.objectContaining({ message: expect.stringContaining('secret') }),
      );
    }
  });

  for (const [what, models, place] of refused) {
    it(`is refused with ${what}, naming the place`, () => {
      expect(() => parse(models)).toThrow(
        expect.objectContaining({ code: 'PARENT_CONFIG_INVALID', message: expect.stringContaining(place) }),
      );
    });
  }
});
