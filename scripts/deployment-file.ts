import { open } from 'node:fs/promises';
import { DEPLOYMENT_MAX_BYTES, type Deployment, parseDeployment } from '../shared/deployment/deployment.ts';
import { expectFile } from './input-file.ts';

/** A deployment document and its exact bytes, which are what is measured. Throws CommandError, DeploymentError. */
export async function readDeploymentFile(
  path: string,
): Promise<{ readonly bytes: Uint8Array; readonly deployment: Deployment }> {
  await expectFile(path);
  const file = await open(path);
  try {
    // One byte more than allowed, so that a longer document is seen as too long and not as a shorter one.
    const buffer = Buffer.alloc(DEPLOYMENT_MAX_BYTES + 1);
    let size = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, size, buffer.length - size);
      if (bytesRead === 0) break;
      size += bytesRead;
    }
    const bytes = buffer.subarray(0, size);
    return { bytes, deployment: parseDeployment(bytes) };
  } finally {
    await file.close();
  }
}
