/** IPv4 addresses as numbers, and which of them are nobody's business of a function: internal ones. Pure. */
export interface Range {
  readonly address: string;
  readonly bits: number;
}

/**
 * Never reachable by a function unless the operator opens a range: this network, private (RFC 1918), carrier-grade
 * NAT (RFC 6598), loopback, link-local with cloud metadata, protocol assignments, 6to4 relays, benchmarking (our own
 * namespaces are there), multicast, reserved and broadcast. IPv6 is not carried at all.
 */
export const INTERNAL_RANGES: readonly Range[] = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/4',
  '240.0.0.0/4',
].map((text) => {
  const [address, bits] = text.split('/') as [string, string];
  return { address, bits: Number(bits) };
});

export function toNumber(address: string): number {
  return address.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
}

export function fromNumber(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join('.');
}

export function firstOf({ address, bits }: Range): number {
  return Math.floor(toNumber(address) / 2 ** (32 - bits)) * 2 ** (32 - bits);
}

export function lastOf(range: Range): number {
  return firstOf(range) + 2 ** (32 - range.bits) - 1;
}

export function overlaps(a: Range, b: Range): boolean {
  return firstOf(a) <= lastOf(b) && firstOf(b) <= lastOf(a);
}

export function contains(outer: Range, inner: Range): boolean {
  return firstOf(outer) <= firstOf(inner) && lastOf(inner) <= lastOf(outer);
}

/** `opened` are ranges that the operator lets functions reach if their allow list names them. */
export function isInternal(range: Range, opened: readonly Range[]): boolean {
  if (opened.some((one) => contains(one, range))) return false;
  return INTERNAL_RANGES.some((one) => overlaps(one, range));
}

export function formatRange({ address, bits }: Range): string {
  return bits === 32 ? address : `${fromNumber(firstOf({ address, bits }))}/${bits}`;
}
