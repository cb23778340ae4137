/**
 * The resolver of functions with egress: a forwarder on the address that is their gateway. Who asks is told by the
 * source address, which the firewall guarantees.
 *
 * Invariant: an address leaves here only after the firewall knows it (`pin`), and internal addresses never do: a name
 * that points inside, now or at the next query, points nowhere. Queries are hostile: bounded in size and number, and
 * rebuilt before they are sent on. Deliberately absent: a cache, and IPv6 (AAAA is answered with nothing).
 */
import { randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket as TcpSocket } from 'node:net';
import dnsPacket, { type Packet, type Question } from 'dns-packet';
import { isInternal, type Range } from './address.ts';

/** What a function may ask, decided by its policy. */
export interface NamePolicy {
  isAllowed(name: string): boolean;
  /** Lets the function reach these addresses for `seconds`; resolves when the firewall does. */
  pin(name: string, addresses: readonly string[], seconds: number): Promise<void>;
  /** A name that was asked for and is not allowed. */
  onDenied(name: string): void;
}

export interface ResolverOptions {
  readonly address: string;
  readonly upstream: { readonly host: string; readonly port: number };
  readonly opened: readonly Range[];
  /** Undefined: not a function of ours. */
  readonly policyOf: (source: string) => NamePolicy | undefined;
}

const QUERIES_PER_SOURCE_MAX = 64;
const UPSTREAM_MS_MAX = 4_000;
const TCP_IDLE_MS = 5_000;
const UDP_BYTES_MAX = 1232;
/** An address stays reachable at least this long: programs keep what they resolved for longer than its TTL. */
const PIN_SECONDS_MIN = 60;
const PIN_SECONDS_MAX = 3_600;
const FORWARDED = new Set(['A', 'CNAME', 'MX', 'NS', 'PTR', 'SOA', 'SRV', 'TXT', 'CAA']);

const TRUNCATED = 0x0200;
const RECURSION_DESIRED = 0x0100;
const RECURSION_AVAILABLE = 0x0080;
type Code = 'NOERROR' | 'FORMERR' | 'SERVFAIL' | 'NXDOMAIN' | 'REFUSED';
const CODES: Readonly<Record<Code, number>> = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  REFUSED: 5,
};

export class Resolver {
  readonly #options: ResolverOptions;
  readonly #udp: Socket = createSocket('udp4');
  readonly #tcp: Server = createServer((socket) => this.#onConnection(socket));
  readonly #inFlight = new Map<string, number>();

  constructor(options: ResolverOptions) {
    this.#options = options;
    this.#udp.on('message', (message, { address, port }) => {
      void this.#answer(address, message).then((reply) => {
        if (reply) this.#udp.send(limit(reply), port, address);
      });
    });
    this.#udp.on('error', () => {});
    this.#tcp.on('error', () => {});
    this.#tcp.maxConnections = 256;
  }

  /** Resolves to the port that both UDP and TCP are served on. */
  async open(): Promise<number> {
    const { address } = this.#options;
    this.#udp.bind({ address, port: 0 });
    await once(this.#udp, 'listening');
    const { port } = this.#udp.address();
    this.#tcp.listen({ host: address, port });
    await once(this.#tcp, 'listening');
    return port;
  }

  close(): void {
    this.#udp.close();
    this.#tcp.close();
  }

  #onConnection(socket: TcpSocket): void {
    const source = socket.remoteAddress?.replace(/^::ffff:/, '') ?? '';
    let pending = Buffer.alloc(0);
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
        const end = 2 + pending.readUInt16BE(0);
        const message = pending.subarray(2, end);
        pending = pending.subarray(end);
        void this.#answer(source, message).then((reply) => {
          if (reply) socket.write(Buffer.concat([lengthOf(reply), reply]));
        });
      }
    });
  }

  /** Undefined: nothing is said. */
  async #answer(source: string, message: Buffer): Promise<Buffer | undefined> {
    const policy = this.#options.policyOf(source);
    const query = tryDecode(message);
    if (!policy || !query || query.type !== 'query') return undefined;
    const inFlight = this.#inFlight.get(source) ?? 0;
    if (inFlight >= QUERIES_PER_SOURCE_MAX) return reply(query, 'REFUSED', []);
    this.#inFlight.set(source, inFlight + 1);
    try {
      return await this.#resolve(policy, query);
    } catch {
      return reply(query, 'SERVFAIL', []);
    } finally {
      const left = (this.#inFlight.get(source) ?? 1) - 1;
      if (left > 0) this.#inFlight.set(source, left);
      else this.#inFlight.delete(source);
    }
  }

  async #resolve(policy: NamePolicy, query: Packet): Promise<Buffer> {
    const [question, ...more] = query.questions ?? [];
    if (!question || more.length > 0) return reply(query, 'FORMERR', []);
    const name = question.name.toLowerCase().replace(/\.$/, '');
    if (!policy.isAllowed(name)) {
      policy.onDenied(name);
      return reply(query, 'NXDOMAIN', []);
    }
    if (!FORWARDED.has(question.type)) return reply(query, 'NOERROR', []);
    const upstream = await askUpstream(this.#options.upstream, question);
    const { opened } = this.#options;
    const answers = (upstream.answers ?? []).filter(
      (answer) =>
        answer.type !== 'AAAA' &&
        !(answer.type === 'A' && isInternal({ address: answer.data, bits: 32 }, opened)),
    );
    const addresses = answers.flatMap((answer) => (answer.type === 'A' ? [answer.data] : []));
    const ttls = answers.flatMap((answer) =>
      'ttl' in answer && answer.ttl !== undefined ? [answer.ttl] : [],
    );
    const seconds = Math.min(PIN_SECONDS_MAX, Math.max(PIN_SECONDS_MIN, ...ttls));
    if (addresses.length > 0) await policy.pin(name, addresses, seconds);
    const code = upstream.flags === undefined ? 'NOERROR' : codeOf(upstream.flags);
    return reply(query, code, answers);
  }
}

function codeOf(flags: number): Code {
  const found = (Object.entries(CODES) as [Code, number][]).find(([, number]) => number === (flags & 15));
  return found?.[0] ?? 'SERVFAIL';
}

function tryDecode(message: Buffer): Packet | undefined {
  try {
    return dnsPacket.decode(message);
  } catch {
    return undefined;
  }
}

function reply(query: Packet, code: Code, answers: NonNullable<Packet['answers']>): Buffer {
  return dnsPacket.encode({
    type: 'response',
    ...(query.id === undefined ? {} : { id: query.id }),
    flags: RECURSION_AVAILABLE | ((query.flags ?? 0) & RECURSION_DESIRED) | CODES[code],
    questions: query.questions?.slice(0, 1) ?? [],
    answers,
  });
}

/** A reply that is too long for a datagram tells the asker to come back over TCP. */
function limit(message: Buffer): Buffer {
  if (message.length <= UDP_BYTES_MAX) return message;
  const query = dnsPacket.decode(message);
  const flags = (query.flags ?? 0) | TRUNCATED;
  return dnsPacket.encode({
    ...query,
    type: 'response',
    flags,
    answers: [],
    authorities: [],
    additionals: [],
  });
}

function lengthOf(message: Buffer): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(message.length);
  return bytes;
}

/** A question of our own making: nothing else of the function's message leaves this host. */
async function askUpstream(upstream: ResolverOptions['upstream'], question: Question): Promise<Packet> {
  const id = randomInt(65_536);
  const message = dnsPacket.encode({ type: 'query', id, flags: RECURSION_DESIRED, questions: [question] });
  const isAnswer = (packet: Packet | undefined): packet is Packet =>
    packet?.type === 'response' &&
    packet.id === id &&
    packet.questions?.[0]?.name.toLowerCase() === question.name.toLowerCase();
  const viaUdp = tryDecode(await askUdp(upstream, message, (bytes) => isAnswer(tryDecode(bytes))));
  if (viaUdp && ((viaUdp.flags ?? 0) & TRUNCATED) === 0) return viaUdp;
  const viaTcp = tryDecode(await askTcp(upstream, message));
  if (!isAnswer(viaTcp)) throw new Error('the upstream resolver answered something else');
  return viaTcp;
}

async function askUdp(
  { host, port }: ResolverOptions['upstream'],
  message: Buffer,
  isAnswer: (bytes: Buffer) => boolean,
): Promise<Buffer> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  try {
    return await new Promise<Buffer>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the upstream resolver is silent')), UPSTREAM_MS_MAX);
      socket.once('close', () => clearTimeout(timer));
      socket.on('error', reject);
      socket.on('message', (bytes) => {
        if (isAnswer(bytes)) resolve(bytes);
      });
      // Connected: datagrams from elsewhere are not taken.
      socket.connect(port, host, () => socket.send(message));
    });
  } finally {
    socket.close();
  }
}

async function askTcp({ host, port }: ResolverOptions['upstream'], message: Buffer): Promise<Buffer> {
  const socket = connect({ host, port });
  socket.setTimeout(UPSTREAM_MS_MAX, () => socket.destroy(new Error('the upstream resolver is silent')));
  try {
    socket.write(Buffer.concat([lengthOf(message), message]));
    let received = Buffer.alloc(0);
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      received = Buffer.concat([received, chunk]);
      if (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) break;
    }
    return received.subarray(2);
  } finally {
    socket.destroy();
  }
}
