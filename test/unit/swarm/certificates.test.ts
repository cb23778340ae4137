import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  createAuthority,
  createKeyPair,
  digestOfCertificate,
  issueLeaf,
  tryReadIdentity,
  type LeafRequest,
} from '../../../infra/swarm/certificates.ts';

let dir: string;
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'skiff-cert-'))));
afterEach(() => rmSync(dir, { recursive: true }));

const leaf = (changes: Partial<LeafRequest> = {}): LeafRequest => ({
  publicKey: createKeyPair().publicKey,
  nodeId: 'node-1',
  role: 'worker',
  addresses: ['10.0.0.1', 'fd00::1:2', 'host.example'],
  lifeMs: 86_400_000,
  ...changes,
});

function verify(ca: string, certificate: string, ...args: string[]): string {
  writeFileSync(join(dir, 'ca'), ca);
  writeFileSync(join(dir, 'leaf'), certificate);
  const all = ['verify', '-x509_strict', '-CAfile', join(dir, 'ca'), ...args, join(dir, 'leaf')];
  return execFileSync('openssl', all, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

test('openssl accepts what we sign, strictly, for both sides of a connection', () => {
  const ca = createAuthority('swarm-a');
  const certificate = issueLeaf(ca, leaf());
  for (const purpose of ['sslserver', 'sslclient'])
    expect(verify(ca.certificate, certificate, '-purpose', purpose)).toContain('OK');
  for (const [kind, name] of [
    ['-verify_ip', '10.0.0.1'],
    ['-verify_ip', 'fd00::1:2'],
    ['-verify_hostname', 'host.example'],
    ['-verify_hostname', 'node-1.node.skiff.internal'],
  ] as const)
    expect(verify(ca.certificate, certificate, kind, name)).toContain('OK');
});

test('openssl refuses a certificate of another CA, one that is over, and a leaf that signs', () => {
  const [ca, other] = [createAuthority('a'), createAuthority('a')];
  expect(() => verify(other.certificate, issueLeaf(ca, leaf()))).toThrow(/verification failed/);
  const old = issueLeaf(ca, leaf({ lifeMs: 1_000 }), Date.now() - 60_000);
  expect(() => verify(ca.certificate, old)).toThrow(/expired/);
  const keys = createKeyPair();
  const rogue = {
    certificate: issueLeaf(ca, leaf({ publicKey: keys.publicKey })),
    privateKey: keys.privateKey,
  };
  const below = issueLeaf(rogue, leaf({ nodeId: 'node-2' }));
  expect(() => verify(ca.certificate, below, '-untrusted', join(dir, 'leaf'))).toThrow();
});

test('a certificate says which node it is of, and only managers have the name of the backbone', () => {
  const ca = createAuthority('swarm-a');
  const worker = new X509Certificate(issueLeaf(ca, leaf()));
  expect(tryReadIdentity(worker)).toEqual({ nodeId: 'node-1', role: 'worker', cluster: 'swarm-a' });
  expect(worker.checkHost('backbone.skiff.internal')).toBeUndefined();
  const manager = new X509Certificate(issueLeaf(ca, leaf({ role: 'manager' })));
  expect(manager.checkHost('backbone.skiff.internal')).toBe('backbone.skiff.internal');
  expect(tryReadIdentity(new X509Certificate(ca.certificate))).toBeUndefined();
});

test('the digest is of the certificate, not of its text, and serials differ', () => {
  const ca = createAuthority('swarm-a');
  expect(digestOfCertificate(ca.certificate.replaceAll('\n', '\r\n'))).toBe(
    digestOfCertificate(ca.certificate),
  );
  expect(digestOfCertificate(createAuthority('swarm-a').certificate)).not.toBe(
    digestOfCertificate(ca.certificate),
  );
  const serials = [1, 2, 3].map(() => new X509Certificate(issueLeaf(ca, leaf())).serialNumber);
  expect(new Set(serials).size).toBe(3);
});

test('dates from 2050 on are written in four digits', () => {
  const ca = createAuthority('swarm-a', Date.UTC(2049, 0, 1));
  expect(new X509Certificate(ca.certificate).validTo).toContain('2058');
});

test('keys of another kind are refused', () => {
  const ca = createAuthority('swarm-a');
  for (const publicKey of ['nonsense', ca.certificate.slice(0, 60)])
    expect(() => issueLeaf(ca, leaf({ publicKey }))).toThrow(/P-256/);
});
