import { describe, expect, it } from 'vitest';
import { setup } from '../setup.ts';
import { s3Store } from './stores.ts';

describe('a running parent', () => {
  it('takes models from another store after a reload, and keeps its store when the new one cannot be opened', async () => {
    await using store = await s3Store();
    store.put('iris.sealed/head', Buffer.from('from S3'));
    await using at = await setup();
    const head = async () => Buffer.from(await at.host.fetchModelFile('iris', 'head', 100)).toString();
    expect(await head()).toBe('the head');

    at.parent.reload({ ...at.config, models: store.config });
    expect(await head()).toBe('from S3');

    const models = { kind: 'registry' as const, url: 'https://127.0.0.1:1', ca: '/nowhere/ca.pem' };
    expect(() => at.parent.reload({ ...at.config, models })).toThrow(
      expect.objectContaining({ code: 'PARENT_TLS_FILES_UNUSABLE' }),
    );
    expect(await head()).toBe('from S3');
  });
});
