/**
 * Egress of functions: a network namespace for each sandbox that has any, one firewall table, one resolver.
 * Invariant: nothing is open before it is set, and nothing is set before the table stands. A namespace begins with no
 * policy (it reaches the resolver, which then answers nobody), gets one policy once, and ends with its sandbox.
 * Everything is named after its process's data folder, so that it can be removed by name after a crash. Hosts without
 * functions that need it are not touched. Deliberately absent: functions without egress; their namespace is empty.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SkiffError, toSkiffError } from '../../sdk/protocol/errors.ts';
import type { Network } from '../../sdk/protocol/manifest.ts';
import type { Log } from '../lib/log.ts';
import { releaseClaim, tryClaim } from '../sandbox/claim.ts';
import { fromNumber, toNumber, type Range } from './address.ts';
import { runTool } from './command.ts';
import { Denials, type Denial } from './denials.ts';
import { Firewall } from './firewall.ts';
import { openForwarding, type Forwarding } from './forwarding.ts';
import { createNamespace, removeNamespace, type NamespacePlan } from './namespace.ts';
import { allowsName, createPolicy, portsOf, type Policy } from './policy.ts';
import { Resolver, type NamePolicy } from './resolver.ts';

/** Whom a namespace belongs to. */
export interface NetworkOwner {
  readonly config: { readonly network: Network };
}

export interface NetworksOptions<Owner extends NetworkOwner> {
  /** Eight characters that are this process's alone on this host. */
  readonly hash: string;
  /** Ours alone. */
  readonly stateDir: string;
  /** Shared by all runners and builders of this host. */
  readonly runDir: string;
  /** `host` or `host:port`; absent: the host's own. */
  readonly dns: string | undefined;
  /** Devices that lead outside; empty: those with a default route. */
  readonly devices: readonly string[];
  /** Internal ranges that allow lists may name. */
  readonly opened: readonly Range[];
  readonly log: Log;
  readonly onDenied: (owner: Owner, denial: { target: string; protocol: string; count: number }) => void;
}

/** 198.18.0.0/15 is for benchmarks between networks (RFC 2544): nobody's real addresses. In blocks of 1,024. */
const POOL = toNumber('198.18.0.0');
const BLOCK_BITS = 22;
const BLOCK_SIZE = 1024;
const BLOCKS = 128;
const WATCH_MS = 1_000;

interface Member<Owner> {
  readonly plan: NamespacePlan;
  readonly index: number;
  readonly sandbox: string;
  /** Ends the sandbox when its policy can no longer be relied on. */
  end?: () => void;
  owner?: Owner;
  policy?: Policy;
}

interface Ground {
  readonly block: Range;
  readonly gateway: string;
  readonly claim: string;
  readonly firewall: Firewall;
  readonly resolver: Resolver;
  readonly forwarding: Forwarding;
}

export class Networks<Owner extends NetworkOwner> {
  readonly #options: NetworksOptions<Owner>;
  readonly #members = new Map<string, Member<Owner>>();
  readonly #used = new Set<number>();
  readonly #denials = new Denials();
  readonly #closing = new AbortController();
  /** What is being made or removed now; `close` waits for it. */
  readonly #pending = new Set<Promise<unknown>>();
  #next = 0;
  #opening: Promise<Ground> | undefined;
  #watching: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: NetworksOptions<Owner>) {
    this.#options = options;
  }

  /** Removes what a dead predecessor left. */
  async reap(): Promise<number> {
    const prefix = this.#namespacePrefix;
    const names = tryList('/run/netns').filter((name) => name.startsWith(prefix));
    for (const name of names) await removeNamespace({ name, link: this.#linkOf(name.slice(prefix.length)) });
    const { table } = this;
    if (names.length > 0 || (await isThere(table))) await new Firewall(table).close().catch(() => {});
    await this.#removeGateways().catch(() => {});
    return names.length;
  }

  get table(): string {
    return `skiff_${this.#options.hash}`;
  }

  /** File to be mounted as /etc/resolv.conf. */
  get resolvConf(): string {
    return join(this.#options.stateDir, 'resolv.conf');
  }

  /** A namespace without a policy for the sandbox of this id. Rejects with COLD_START_FAILED when it cannot be made. */
  async acquire(sandbox: string): Promise<string> {
    if (this.#closing.signal.aborted)
      throw new SkiffError('COLD_START_FAILED', `${sandbox} gets no network: this process is stopping`);
    return await this.#track(this.#make(sandbox));
  }

  async #make(sandbox: string): Promise<string> {
    const ground = await this.#open();
    const index = this.#allocate();
    const plan: NamespacePlan = {
      name: `${this.#namespacePrefix}${index}`,
      link: this.#linkOf(String(index)),
      address: fromNumber(toNumber(ground.gateway) + 1 + index),
      gateway: ground.gateway,
    };
    try {
      await createNamespace(plan);
      await ground.firewall.admit(plan.link, plan.address);
    } catch (error) {
      await removeNamespace(plan);
      this.#used.delete(index);
      throw error;
    }
    this.#members.set(plan.address, { plan, index, sandbox });
    return plan.name;
  }

  /** `end` is called when the rules are found missing. */
  attach(sandbox: string, end: () => void): void {
    const member = this.#find(sandbox);
    if (member) member.end = end;
  }

  #find(sandbox: string): Member<Owner> | undefined {
    return [...this.#members.values()].find((one) => one.sandbox === sandbox);
  }

  /** Gives the sandbox its one policy. Rejects with COLD_START_FAILED or INVALID_CONFIG; then nothing is open. */
  async bind(sandbox: string, owner: Owner): Promise<void> {
    const ground = await this.#open();
    const member = this.#find(sandbox);
    if (!member || member.policy)
      throw new SkiffError('COLD_START_FAILED', `${sandbox} has no network to be given`);
    const policy = createPolicy(owner.config.network, this.#options.opened);
    const { address } = member.plan;
    if (policy.isInternet) await ground.firewall.openInternet(address);
    if (policy.ranges.length > 0) await ground.firewall.allow(address, policy.ranges);
    member.policy = policy;
    member.owner = owner;
  }

  async release(sandbox: string): Promise<void> {
    await this.#track(this.#remove(sandbox));
  }

  async #remove(sandbox: string): Promise<void> {
    const member = this.#find(sandbox);
    if (!member) return;
    const { plan, policy } = member;
    this.#members.delete(plan.address);
    await removeNamespace(plan);
    const ground = await this.#opening;
    await ground?.firewall
      .expel(plan.link, plan.address, policy?.ranges ?? [], policy?.isInternet ?? false)
      .catch((error: unknown) =>
        this.#options.log.warn({ error, sandbox }, 'firewall entries could not be removed'),
      );
    this.#used.delete(member.index);
  }

  /**
   * Leaves nothing, also when sandboxes are being made or removed meanwhile: an `acquire` that is under way may end in a
   * `release` by its caller, so what is under way is looked at until there is nothing left. Idempotent.
   */
  close(): Promise<void> {
    return (this.#closed ??= this.#close());
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    await this.#watching;
    while (this.#pending.size > 0 || this.#members.size > 0) {
      await Promise.allSettled(this.#pending);
      for (const { sandbox } of this.#members.values()) await this.release(sandbox);
    }
    const ground = await this.#opening?.catch(() => undefined);
    ground?.resolver.close();
    await ground?.firewall.close();
    // After a breach there is no ground, but there may be its address.
    if (this.#watching) await this.#removeGateways();
    ground?.forwarding.close();
    if (ground) releaseClaim(ground.claim);
  }

  async #track<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work);
    try {
      return await work;
    } finally {
      this.#pending.delete(work);
    }
  }

  get #namespacePrefix(): string {
    return `skiff-${this.#options.hash}-`;
  }

  /** At most 15 characters, the kernel's limit for names of devices. */
  #linkOf(index: string): string {
    return `${this.#linkPrefix}${index}`;
  }

  get #linkPrefix(): string {
    return `sk${this.#options.hash}-`;
  }

  #allocate(): number {
    for (let tries = 0; tries < BLOCK_SIZE - 4; tries++) {
      const index = this.#next;
      this.#next = (this.#next + 1) % (BLOCK_SIZE - 4);
      if (this.#used.has(index)) continue;
      this.#used.add(index);
      return index;
    }
    throw new SkiffError(
      'OVERLOADED',
      `all ${BLOCK_SIZE - 4} network addresses of this host's sandboxes are in use`,
    );
  }

  async #open(): Promise<Ground> {
    if (!this.#opening && this.#closing.signal.aborted)
      throw new SkiffError('COLD_START_FAILED', 'there is no network: this process is stopping');
    const opening = (this.#opening ??= this.#makeGround());
    try {
      return await opening;
    } catch (error) {
      // Several wait for it; only the first of them may forget it, not what another has begun since.
      if (this.#opening === opening) this.#opening = undefined;
      throw error;
    }
  }

  async #makeGround(): Promise<Ground> {
    await using undo = new AsyncDisposableStack();
    const { hash, runDir, stateDir, opened } = this.#options;
    const { block, gateway, claim } = claimBlock(join(runDir, 'networks'));
    undo.defer(() => releaseClaim(claim));
    await runTool('ip', ['addr', 'replace', `${gateway}/32`, 'dev', 'lo', 'label', `lo:${hash}`]);
    undo.defer(() => this.#removeGateways());
    const upstream = parseServer(this.#options.dns ?? hostResolver());
    const resolver = new Resolver({
      address: gateway,
      upstream,
      opened,
      policyOf: (source) => this.#policyOf(source),
    });
    undo.defer(() => resolver.close());
    const resolverPort = await resolver.open();
    const devices = this.#options.devices.length > 0 ? this.#options.devices : await defaultDevices();
    const forwarding = openForwarding(devices, join(runDir, 'forwarding'), hash);
    undo.defer(() => forwarding.close());
    const firewall = new Firewall(this.table);
    await firewall.open({
      linkPrefix: this.#linkPrefix,
      block,
      gateway,
      resolverPort,
      opened,
      guardedDevices: forwarding.changed,
    });
    undo.defer(() => firewall.close());
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    writeFileSync(this.resolvConf, `nameserver ${gateway}\noptions timeout:3 attempts:2\n`, { mode: 0o444 });
    undo.move();
    this.#watching = this.#watch(firewall);
    this.#options.log.info({ block: block.address, devices, table: this.table }, 'functions have egress');
    return { block, gateway, claim, firewall, resolver, forwarding };
  }

  #policyOf(source: string): NamePolicy | undefined {
    const member = this.#members.get(source);
    if (!member?.policy || !member.owner) return undefined;
    const { policy, owner } = member;
    return {
      isAllowed: (name) => allowsName(policy, name),
      pin: async (name, addresses, seconds) => {
        const ports = portsOf(policy, name);
        const ground = await this.#open();
        if (ports.length > 0) await ground.firewall.pin(source, addresses, ports, seconds);
      },
      onDenied: (name) => this.#options.onDenied(owner, { target: name, protocol: 'dns', count: 1 }),
    };
  }

  /** Tells what was refused, and notices when somebody has removed the rules. */
  async #watch(firewall: Firewall): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await delay(WATCH_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted || this.#members.size === 0) continue;
      const listing = await firewall.listDenied().catch((error: unknown) => toSkiffError(error));
      if (signal.aborted) return;
      if (typeof listing === 'string') this.#report(this.#denials.update(listing));
      else if (!(await isThere(this.table))) return await this.#onBreach(listing);
    }
  }

  #report(denials: readonly Denial[]): void {
    for (const { source, address, protocol, port, packets } of denials) {
      const owner = this.#members.get(source)?.owner;
      if (owner) this.#options.onDenied(owner, { target: `${address}:${port}`, protocol, count: packets });
    }
  }

  /** The next start makes the table anew; what runs now ran without it for up to a second and is not trusted. */
  async #onBreach(error: SkiffError): Promise<void> {
    this.#options.log.error({ error }, 'the firewall rules are gone; sandboxes with egress are ended');
    for (const { end } of this.#members.values()) end?.();
    const ground = await this.#opening?.catch(() => undefined);
    this.#opening = undefined;
    ground?.resolver.close();
    ground?.forwarding.close();
    if (ground) releaseClaim(ground.claim);
  }

  async #removeGateways(): Promise<void> {
    await runTool('ip', ['addr', 'flush', 'dev', 'lo', 'label', `lo:${this.#options.hash}`]);
  }
}

function claimBlock(dir: string): { block: Range; gateway: string; claim: string } {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  for (let index = 0; index < BLOCKS; index++) {
    const claim = join(dir, String(index));
    if (!tryClaim(claim)) continue;
    const first = POOL + index * BLOCK_SIZE;
    return { claim, block: { address: fromNumber(first), bits: BLOCK_BITS }, gateway: fromNumber(first + 1) };
  }
  throw new SkiffError('COLD_START_FAILED', `all ${BLOCKS} network blocks are claimed in ${dir}`);
}

async function isThere(table: string): Promise<boolean> {
  const tables = await runTool('nft', ['list', 'tables']).catch(() => '');
  return tables.split('\n').includes(`table inet ${table}`);
}

async function defaultDevices(): Promise<string[]> {
  const routes = JSON.parse(await runTool('ip', ['-json', '-4', 'route', 'show', 'default'])) as {
    dev?: string;
  }[];
  return [...new Set(routes.flatMap(({ dev }) => (dev === undefined ? [] : [dev])))];
}

function hostResolver(): string {
  const found = /^nameserver\s+(\S+)/m.exec(readFileSync('/etc/resolv.conf', 'utf8'))?.[1];
  if (found === undefined) {
    throw new SkiffError('COLD_START_FAILED', '/etc/resolv.conf names no resolver; set SKIFF_EGRESS_DNS');
  }
  return found;
}

function parseServer(text: string): { host: string; port: number } {
  const match = /^\[?([0-9a-f.:]+?)\]?(?:(?<=\]|\.\d+):(\d+))?$/i.exec(text);
  if (!match) throw new SkiffError('COLD_START_FAILED', `"${text}" is not the address of a resolver`);
  return { host: match[1] as string, port: Number(match[2] ?? 53) };
}

function tryList(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
