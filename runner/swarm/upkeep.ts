/**
 * What a worker does to stay a member: renews its certificate, and fetches the keys of secrets when they change.
 * On a manager the gateway does both, as it has the CA's key and the keys' file.
 */
import type { Log } from '../../infra/lib/log.ts';
import { replaceFile, tryReadNode } from '../../infra/swarm/identity.ts';
import { callAsNode } from '../../infra/swarm/manager-call.ts';
import { Renewal } from '../../infra/swarm/renewal.ts';
import { KeysAnswer, RenewAnswer } from '../../sdk/protocol/swarm/resources.ts';

export interface WorkerUpkeepOptions {
  readonly identityDir: string;
  readonly secretKeyFile: string;
  readonly log: Log;
  /** Whoever listens with the old certificate must change. */
  onRenewed(): Promise<void>;
}

export class WorkerUpkeep {
  readonly #options: WorkerUpkeepOptions;
  readonly #renewal: Renewal;

  constructor(options: WorkerUpkeepOptions) {
    this.#options = options;
    this.#renewal = new Renewal({ ...options, request: (publicKey) => this.#request(publicKey) });
  }

  close(): void {
    this.#renewal.close();
  }

  /** Before sandboxes are started with a secret that is encrypted with a new key. */
  async fetchKeys(): Promise<void> {
    const registry = this.#tryReadManager();
    if (registry === undefined) return;
    const answer = await callAsNode(this.#options.identityDir, registry, '/swarm/keys', {});
    const { secretKeys } = KeysAnswer.parse(answer);
    if (secretKeys !== '') replaceFile(this.#options.secretKeyFile, secretKeys);
  }

  async #request(publicKey: string): Promise<string | undefined> {
    const registry = this.#tryReadManager();
    if (registry === undefined) return undefined;
    const answer = await callAsNode(this.#options.identityDir, registry, '/swarm/renew', { publicKey });
    return RenewAnswer.parse(answer).certificate;
  }

  /** The swarm port that is also the registry's. */
  #tryReadManager(): string | undefined {
    const node = tryReadNode(this.#options.identityDir);
    return node?.role === 'worker' ? node.registry : undefined;
  }
}
