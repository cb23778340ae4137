/**
 * Where a webhook may go. Invariant: the address that is connected to is the one that was looked at, whatever a name
 * resolves to later; internal addresses are refused unless the operator has opened their range.
 */
import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { SkiffError } from '../../../sdk/protocol/errors.ts';

/** This network, private, shared, loopback, link-local with cloud metadata, protocol assignments, multicast, reserved. */
const INTERNAL: readonly [address: string, bits: number, family: 'ipv4' | 'ipv6'][] = [
  ['0.0.0.0', 8, 'ipv4'],
  ['10.0.0.0', 8, 'ipv4'],
  ['100.64.0.0', 10, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.0.0.0', 24, 'ipv4'],
  ['192.88.99.0', 24, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['198.18.0.0', 15, 'ipv4'],
  ['224.0.0.0', 3, 'ipv4'],
  // Unspecified, loopback and what carries IPv4 inside; NAT64, discard, Teredo, 6to4, unique local, link-local, multicast.
  ['::', 96, 'ipv6'],
  ['64:ff9b::', 32, 'ipv6'],
  ['100::', 64, 'ipv6'],
  ['2001::', 32, 'ipv6'],
  ['2002::', 16, 'ipv6'],
  ['fc00::', 7, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
  ['ff00::', 8, 'ipv6'],
];

const internal = new BlockList();
for (const [address, bits, family] of INTERNAL) internal.addSubnet(address, bits, family);

/** `opened`: IPv4 ranges such as `10.1.0.0/16`. @throws SkiffError INVALID_CONFIG */
export function parseOpened(ranges: readonly string[]): BlockList {
  const opened = new BlockList();
  for (const range of ranges) {
    const [address = '', bits = '32'] = range.split('/');
    if (isIP(address) !== 4 || !/^\d{1,2}$/.test(bits) || Number(bits) > 32) {
      throw new SkiffError('INVALID_CONFIG', `"${range}" is not an IPv4 range; write 10.1.0.0/16`);
    }
    opened.addSubnet(address, Number(bits), 'ipv4');
  }
  return opened;
}

export function isAllowed(address: string, opened: BlockList): boolean {
  // IPv4 in IPv6's clothes has no business in a webhook.
  if (/^::ffff:/i.test(address)) return false;
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  return opened.check(address, family) || !internal.check(address, family);
}

/** For `connect`: resolves a name to the first address that is allowed, and fails when there is none. */
export function createGuardedLookup(opened: BlockList): LookupFunction {
  return (host, options, done) => {
    lookup(host, { ...options, all: true }, (error, addresses) => {
      if (error) return done(error, '', 0);
      const found = addresses.filter(({ address }) => isAllowed(address, opened));
      const [first] = found;
      if (!first) return done(refuse(host), '', 0);
      // undici asks for all when it may try several.
      if ('all' in options && options.all) done(null, found);
      else done(null, first.address, first.family);
    });
  };
}

/** A literal address is never looked up. @throws SkiffError FORBIDDEN */
export function assertLiteralAllowed(url: URL, opened: BlockList): void {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (isIP(host) !== 0 && !isAllowed(host, opened)) throw refuse(host);
}

function refuse(host: string): SkiffError {
  return new SkiffError(
    'FORBIDDEN',
    `${host} is an internal address; webhooks reach only public ones and the ranges of SKIFF_EGRESS_INTERNAL`,
  );
}
