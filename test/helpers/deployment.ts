/** A complete Deployment with invented digests, for tests of what stores and routes them. */
import { createHash } from 'node:crypto';
import { Deployment } from '../../sdk/protocol/api.ts';
import { createId } from '../../sdk/protocol/ids.ts';
import { FunctionConfig, type FunctionConfigInput } from '../../sdk/protocol/manifest.ts';

export function createDeployment(
  functionName: string,
  options: { createdMs?: number; config?: FunctionConfigInput } = {},
): Deployment {
  const id = createId('dep');
  const digest = `sha256:${createHash('sha256').update(id).digest('hex')}`;
  return Deployment.parse({
    id,
    functionName,
    createdMs: options.createdMs ?? Date.now(),
    image: { reference: `functions/${functionName}@${digest}`, digest, bytes: 1, layers: [] },
    entry: '/var/task/index.cjs',
    config: FunctionConfig.parse(options.config ?? {}),
  });
}
