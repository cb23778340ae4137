/**
 * How an embedded Redis is made to listen for the nodes of a swarm: the same settings go into its file (infra/host)
 * and, when a swarm begins or a certificate is renewed, into the server that runs. Its unix socket stays.
 */
import type { Redis } from 'ioredis';
import { identityPaths } from './identity.ts';

/** In an order in which they can be applied: the port last. */
export function redisTlsSettings(dir: string, address: string, port: number): Record<string, string> {
  const { certificate, privateKey, ca } = identityPaths(dir);
  return {
    bind: address,
    'tls-cert-file': certificate,
    'tls-key-file': privateKey,
    'tls-ca-cert-file': ca,
    'tls-auth-clients': 'yes',
    'tls-protocols': 'TLSv1.3',
    'tls-port': String(port),
  };
}

/** Also after a renewal: Redis reads the files when it is told their names. */
export async function applyRedisTls(redis: Redis, settings: Readonly<Record<string, string>>): Promise<void> {
  const { 'tls-port': port, ...others } = settings;
  await redis.call('CONFIG', 'SET', ...Object.entries(others).flat());
  await redis.call('CONFIG', 'SET', 'tls-port', port as string);
}
