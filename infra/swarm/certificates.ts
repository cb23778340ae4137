/**
 * The swarm's own certificate authority: one self-signed CA, and a leaf for each node that says in its subject which
 * node it is (CN), in which role (OU) and of which swarm (O).
 * Invariants: only managers hold the CA's key; a leaf's private key never leaves its node (it sends the public one);
 * names in a leaf are the issuer's choice, never the applicant's.
 * Deliberately absent: revocation lists. A certificate proves who a node is; whether it still belongs to the swarm is
 * asked of the members' record at every use (members.ts).
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';
import { isIP } from 'node:net';
import { SkiffError } from '../../sdk/protocol/errors.ts';
import type { NodeRole } from '../../sdk/protocol/swarm/resources.ts';
import { bits, bool, explicit, implicit, integer, octets, oid, sequence, set, time, utf8 } from './der.ts';

/** What a client demands of whoever says that it is the backbone (Redis, registry, joining): managers have it. */
export const BACKBONE_NAME = 'backbone.skiff.internal';
/** What a gateway demands of the runner of one node. */
export const nodeName = (nodeId: string): string => `${nodeId}.node.skiff.internal`;

const CA_YEARS = 10;
const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;
/** Clocks of hosts differ; a certificate must not be "not yet valid" on the one that is behind. */
const CLOCK_SKEW_MS = HOUR_MS;

const OID = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  unit: '2.5.4.11',
  ecdsaSha256: '1.2.840.10045.4.3.2',
  basicConstraints: '2.5.29.19',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  subjectAltName: '2.5.29.17',
  subjectKeyId: '2.5.29.14',
  authorityKeyId: '2.5.29.35',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

export interface KeyPair {
  /** PEM, PKCS #8. */
  readonly privateKey: string;
  /** PEM, SPKI. */
  readonly publicKey: string;
}

export interface Authority {
  /** PEM. */
  readonly certificate: string;
  /** PEM. */
  readonly privateKey: string;
}

export interface LeafRequest {
  /** PEM, SPKI. */
  readonly publicKey: string;
  readonly nodeId: string;
  readonly role: NodeRole;
  /** IP addresses or host names under which the node is reached, beside its own name. */
  readonly addresses: readonly string[];
  readonly lifeMs: number;
}

export interface PeerIdentity {
  readonly nodeId: string;
  readonly role: NodeRole;
  readonly cluster: string;
}

export function createKeyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }) as string,
  };
}

export function createAuthority(cluster: string, nowMs = Date.now()): Authority {
  const keys = createKeyPair();
  const subject = encodeName([
    [OID.organization, cluster],
    [OID.commonName, 'skiff-ca'],
  ]);
  const certificate = encodeCertificate({
    issuer: subject,
    subject,
    publicKey: createPublicKey(keys.publicKey),
    signer: createPrivateKey(keys.privateKey),
    fromMs: nowMs - CLOCK_SKEW_MS,
    untilMs: nowMs + CA_YEARS * YEAR_MS,
    extensions: [
      // CA, and nothing below it may be one.
      extension(OID.basicConstraints, true, sequence(bool(true), integer(Buffer.from([0])))),
      // keyCertSign and cRLSign.
      extension(OID.keyUsage, true, bits(Buffer.from([0x06]), 1)),
    ],
  });
  return { certificate, privateKey: keys.privateKey };
}

/** @throws SkiffError BAD_REQUEST when the public key is none of the kind we use (EC P-256). */
export function issueLeaf(authority: Authority, request: LeafRequest, nowMs = Date.now()): string {
  const ca = new X509Certificate(authority.certificate);
  const cluster = readSubject(ca)['O'] ?? '';
  const names = [nodeName(request.nodeId), ...(request.role === 'manager' ? [BACKBONE_NAME] : [])];
  const alternatives = [
    ...names.map((name) => implicit(2, Buffer.from(name))),
    ...request.addresses.map((address) =>
      isIP(address) === 0 ? implicit(2, Buffer.from(address)) : implicit(7, encodeIp(address)),
    ),
  ];
  return encodeCertificate({
    issuer: encodeName([
      [OID.organization, cluster],
      [OID.commonName, 'skiff-ca'],
    ]),
    subject: encodeName([
      [OID.organization, cluster],
      [OID.unit, request.role],
      [OID.commonName, request.nodeId],
    ]),
    publicKey: readPublicKey(request.publicKey),
    signer: createPrivateKey(authority.privateKey),
    fromMs: nowMs - CLOCK_SKEW_MS,
    untilMs: nowMs + request.lifeMs,
    extensions: [
      extension(OID.basicConstraints, true, sequence()),
      // digitalSignature.
      extension(OID.keyUsage, true, bits(Buffer.from([0x80]), 7)),
      extension(OID.extendedKeyUsage, false, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
      extension(OID.subjectAltName, false, sequence(...alternatives)),
    ],
  });
}

/** SHA-256 of the DER form: what a join token carries, so that a joiner knows the CA before it trusts anything. */
export function digestOfCertificate(pem: string): string {
  return createHash('sha256').update(new X509Certificate(pem).raw).digest('base64url');
}

/** Who a certificate of this swarm's CA names. Undefined: not such a certificate. */
export function tryReadIdentity(certificate: X509Certificate): PeerIdentity | undefined {
  const { CN, OU, O } = readSubject(certificate);
  if (CN === undefined || O === undefined || (OU !== 'worker' && OU !== 'manager')) return undefined;
  return { nodeId: CN, role: OU, cluster: O };
}

function readPublicKey(pem: string): KeyObject {
  let key: KeyObject | undefined;
  try {
    key = createPublicKey(pem);
  } catch {
    // Reported below.
  }
  if (key?.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw new SkiffError('BAD_REQUEST', 'the public key is not a P-256 key in PEM form');
  return key;
}

/** `O=x\nOU=y\nCN=z`. Our names have none of the characters that would need escapes. */
function readSubject(certificate: X509Certificate): Record<string, string> {
  return Object.fromEntries(
    certificate.subject.split('\n').map((line) => {
      const at = line.indexOf('=');
      return [line.slice(0, at), line.slice(at + 1)];
    }),
  );
}

interface CertificateParts {
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly publicKey: KeyObject;
  readonly signer: KeyObject;
  readonly fromMs: number;
  readonly untilMs: number;
  readonly extensions: readonly Buffer[];
}

/** RFC 5280 §4.1. */
function encodeCertificate(parts: CertificateParts): string {
  const algorithm = sequence(oid(OID.ecdsaSha256));
  const spki = parts.publicKey.export({ type: 'spki', format: 'der' });
  const signerSpki = createPublicKey(parts.signer).export({ type: 'spki', format: 'der' });
  const serial = randomBytes(16);
  // The first bit clear keeps it positive, the second set keeps its length.
  serial[0] = ((serial[0] as number) & 0x3f) | 0x40;
  const body = sequence(
    explicit(0, integer(Buffer.from([2]))),
    integer(serial),
    algorithm,
    parts.issuer,
    sequence(time(parts.fromMs), time(parts.untilMs)),
    parts.subject,
    spki,
    explicit(
      3,
      sequence(
        ...parts.extensions,
        extension(OID.subjectKeyId, false, octets(keyId(spki))),
        extension(OID.authorityKeyId, false, sequence(implicit(0, keyId(signerSpki)))),
      ),
    ),
  );
  const signature = sign('sha256', body, parts.signer);
  const text = sequence(body, algorithm, bits(signature))
    .toString('base64')
    .replaceAll(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`;
}

function keyId(spki: Buffer): Buffer {
  return createHash('sha256').update(spki).digest().subarray(0, 20);
}

function extension(id: string, isCritical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(isCritical ? [bool(true)] : []), octets(value));
}

function encodeName(attributes: readonly (readonly [string, string])[]): Buffer {
  return sequence(...attributes.map(([id, value]) => set(sequence(oid(id), utf8(value)))));
}

function encodeIp(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const middle = tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => '0');
  const bytes = Buffer.alloc(16);
  for (const [index, group] of [...left, ...middle, ...right].entries())
    bytes.writeUInt16BE(Number.parseInt(group, 16), index * 2);
  return bytes;
}
