/**
 * The runner's nftables table, live: elements in, elements out, and what was refused. Invariant: if the table is not
 * what we made, this throws; nobody may take silence for protection.
 */
import { runTool } from './command.ts';
import { formatRange } from './address.ts';
import type { RangeEntry } from './policy.ts';
import { createRuleset, type RulesetInput } from './ruleset.ts';

export class Firewall {
  readonly #table: string;

  constructor(table: string) {
    this.#table = table;
  }

  async open(input: Omit<RulesetInput, 'table'>): Promise<void> {
    await this.#run(createRuleset({ table: this.#table, ...input }));
  }

  async close(): Promise<void> {
    await this.#run(`table inet ${this.#table} {}\ndelete table inet ${this.#table}`);
  }

  /** From now on `link` may speak as `address`; it reaches the resolver and nothing else. */
  async admit(link: string, address: string): Promise<void> {
    await this.#run(this.#element('add', 'sources', `"${link}" . ${address}`));
  }

  async openInternet(address: string): Promise<void> {
    await this.#run(this.#element('add', 'internet', address));
  }

  async allow(address: string, ranges: readonly RangeEntry[]): Promise<void> {
    const elements = ranges.map((range) => `${address} . ${formatRange(range)} . ${range.port ?? '0-65535'}`);
    await this.#run(this.#element('add', 'allowed', elements.join(', ')));
  }

  /** Added, removed, added: an element that exists would otherwise keep its old time. */
  async pin(
    address: string,
    targets: readonly string[],
    ports: readonly number[],
    seconds: number,
  ): Promise<void> {
    const keys = targets.flatMap((target) => ports.map((port) => `${address} . ${target} . ${port}`));
    await this.#run(
      [
        this.#element('add', 'pinned', keys.join(', ')),
        this.#element('delete', 'pinned', keys.join(', ')),
        this.#element('add', 'pinned', keys.map((key) => `${key} timeout ${seconds}s`).join(', ')),
      ].join('\n'),
    );
  }

  /** Takes back all that `address` was given. */
  async expel(
    link: string,
    address: string,
    ranges: readonly RangeEntry[],
    isInternet: boolean,
  ): Promise<void> {
    const lines = [this.#element('delete', 'sources', `"${link}" . ${address}`)];
    if (isInternet) lines.push(this.#element('delete', 'internet', address));
    for (const range of ranges) {
      lines.push(
        this.#element('delete', 'allowed', `${address} . ${formatRange(range)} . ${range.port ?? '0-65535'}`),
      );
    }
    await this.#run(lines.join('\n'));
  }

  /** nft's JSON of what was refused lately. Rejects when the table is gone. */
  async listDenied(): Promise<string> {
    return await runTool('nft', ['-j', 'list', 'set', 'inet', this.#table, 'denied']);
  }

  #element(verb: 'add' | 'delete', set: string, elements: string): string {
    return `${verb} element inet ${this.#table} ${set} { ${elements} }`;
  }

  async #run(script: string): Promise<void> {
    await runTool('nft', ['-f', '-'], `${script}\n`);
  }
}
