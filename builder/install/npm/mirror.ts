/** What of an npm registry an install may see: package documents, versions and tarballs. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Mirror, type SessionState } from '../mirror.ts';

/** Never `/-/…`, where accounts, tokens and audits are. */
const ALLOWED_PATH =
  /^\/(?!-\/)(?:@[\w.~-]+(?:\/|%2[fF]))?[\w.~-]+(?:\/-\/(?:@[\w.~-]+\/)?[\w.~+-]+\.tgz|\/[\w.~+-]+)?$/;

export class NpmMirror extends Mirror {
  protected override async answer(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    state: SessionState,
  ): Promise<void> {
    const path = this.#strip(incoming.url ?? '/');
    const isRead = incoming.method === 'GET' || incoming.method === 'HEAD';
    if (!isRead || !ALLOWED_PATH.test(path)) return this.forbid(incoming, outgoing, state);
    if (this.refuse(incoming, outgoing, state)) return;
    const url = new URL(`.${path}`, this.base);
    if (path.endsWith('.tgz')) await this.passFile(incoming, outgoing, url, state);
    else await this.pass(incoming, outgoing, url, state);
  }

  /** Registries below a path put that path into their tarball URLs. */
  #strip(path: string): string {
    const base = this.base.pathname;
    return base !== '/' && path.startsWith(base) ? path.slice(base.length - 1) : path;
  }
}
