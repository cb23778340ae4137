/**
 * What a worker does to stay a member: renews its certificate, and fetches the keys of secrets when they change.
 * On a manager the gateway does both, as it has the CA's key and the keys' file.
 */
import type { Log } from '../../infra/lib/log.ts';
import { managerPortOf, replaceFile, tryReadNode } from '../../infra/swarm/identity.ts';
import { callAsNode } from '../../infra/swarm/manager-call.ts';
import { listManagers, type Members } from '../../infra/swarm/members.ts';
import { Renewal } from '../../infra/swarm/renewal.ts';
import { KeysAnswer, RenewAnswer } from '../../sdk/protocol/swarm/resources.ts';

export interface WorkerUpkeepOptions {
  readonly identityDir: string;
  readonly secretKeyFile: string;
  readonly log: Log;
  readonly members: Pick<Members, 'list'>;
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
    const answer = await this.#tryCall('/swarm/keys', {});
    if (answer === undefined) return;
    const { secretKeys } = KeysAnswer.parse(answer);
    if (secretKeys !== '') replaceFile(this.#options.secretKeyFile, secretKeys);
  }

  async #request(publicKey: string): Promise<string | undefined> {
    const answer = await this.#tryCall('/swarm/renew', { publicKey });
    return answer === undefined ? undefined : RenewAnswer.parse(answer).certificate;
  }

  /** Undefined on a host that is no worker. */
  async #tryCall(path: string, body: unknown): Promise<unknown> {
    const { identityDir, members } = this.#options;
    const node = tryReadNode(identityDir);
    if (node?.role !== 'worker') return undefined;
    const managers = await listManagers(members, managerPortOf(node));
    return await callAsNode(identityDir, managers, path, body);
  }
}
