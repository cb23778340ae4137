/**
 * One line of an egress allow list: `host:port`, `*.host:port`, or an IPv4 address or range with or without a port.
 * Pure. What it may not name (the host's own and private ranges) is the runner's business, which knows its network.
 */
export type EgressEntry =
  | { readonly kind: 'host'; readonly host: string; readonly isWildcard: boolean; readonly port: number }
  /** No port: all of them. */
  | { readonly kind: 'range'; readonly address: string; readonly bits: number; readonly port?: number };

const LABEL = '[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?';
/** The last label has a letter: what looks like a number is an address in disguise (0x7f000001, 127.1). */
const HOST = new RegExp(`^(\\*\\.)?((?:${LABEL}\\.)*(?=[a-z0-9-]*[a-z])(?!0x)${LABEL}):(\\d{1,5})$`);
const RANGE = /^(\d{1,3}(?:\.\d{1,3}){3})(?:\/(\d{1,2}))?(?::(\d{1,5}))?$/;

/** Undefined when it is none of the forms. */
export function tryParseEgressEntry(text: string): EgressEntry | undefined {
  const entry = text.trim().toLowerCase();
  const range = RANGE.exec(entry);
  if (range) return toRange(range);
  const host = HOST.exec(entry);
  const port = Number(host?.[3]);
  if (!host || !isPort(port) || (host[2] as string).length > 253) return undefined;
  return { kind: 'host', host: host[2] as string, isWildcard: host[1] !== undefined, port };
}

function toRange([, address, bitsText, portText]: RegExpExecArray): EgressEntry | undefined {
  const octets = (address as string).split('.');
  // "010" is 8 for some programs and 10 for others.
  if (octets.some((octet) => Number(octet) > 255 || String(Number(octet)) !== octet)) return undefined;
  const bits = bitsText === undefined ? 32 : Number(bitsText);
  const port = portText === undefined ? undefined : Number(portText);
  if (bits < 1 || bits > 32 || (port !== undefined && !isPort(port))) return undefined;
  return { kind: 'range', address: address as string, bits, ...(port === undefined ? {} : { port }) };
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65_535;
}
