/**
 * What of a Python package index an install may see: the pages of projects (PEP 503 and 691) and the files they link
 * to. The links are rewritten to lead through here, so the sandbox never learns another host, and only files that a
 * page of this session named can be asked for.
 */
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { readLimited } from '../../../infra/oci/transfer/auth.ts';
import { Mirror, note, type SessionState } from '../mirror.ts';

const PROJECT = /^\/simple\/([A-Za-z0-9][\w.-]*)\/?$/;
const FILE = /^\/files\/([0-9a-f]{40})\/[\w.+!-]+$/;
const JSON_TYPE = 'application/vnd.pypi.simple.v1+json';
const HTML_TYPE = 'text/html';
/** The pages of the largest projects have some ten megabytes. */
const PAGE_BYTES_MAX = 64 * 1024 * 1024;

export class PipMirror extends Mirror {
  readonly #files = new WeakMap<SessionState, Map<string, URL>>();

  protected override async answer(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    state: SessionState,
  ): Promise<void> {
    const path = incoming.url ?? '/';
    const isRead = incoming.method === 'GET' || incoming.method === 'HEAD';
    const project = PROJECT.exec(path)?.[1];
    const file = this.#filesOf(state).get(FILE.exec(path)?.[1] ?? '');
    if (!isRead || (project === undefined && !file)) return this.forbid(incoming, outgoing, state);
    if (this.refuse(incoming, outgoing, state)) return;
    if (file) await this.passFile(incoming, outgoing, file, state);
    else await this.#answerPage(outgoing, new URL(`${project}/`, this.base), state);
  }

  #filesOf(state: SessionState): Map<string, URL> {
    let files = this.#files.get(state);
    if (!files) this.#files.set(state, (files = new Map()));
    return files;
  }

  async #answerPage(outgoing: ServerResponse, url: URL, state: SessionState): Promise<void> {
    const reply = await this.send('GET', url, { accept: `${JSON_TYPE}, ${HTML_TYPE};q=0.5` });
    if (reply.statusCode !== 200) {
      if (reply.statusCode !== 404) note(state.problems, `${reply.statusCode} ${url.pathname}`);
      await reply.body.dump();
      outgoing.writeHead(reply.statusCode).end();
      return;
    }
    const type = String(reply.headers['content-type'] ?? '').split(';')[0] as string;
    const text = (await readLimited(reply.body, PAGE_BYTES_MAX)).toString('utf8');
    state.bytes += text.length;
    const rewrite = (target: string): string | undefined => this.#tryRewrite(target, url, state);
    const page = type.endsWith('+json') ? rewriteJson(text, rewrite) : rewriteHtml(text, rewrite);
    outgoing.writeHead(200, { 'content-type': type.endsWith('+json') ? JSON_TYPE : HTML_TYPE }).end(page);
  }

  /** A link through this mirror; undefined for one to a place that is not private on the way. */
  #tryRewrite(target: string, page: URL, state: SessionState): string | undefined {
    if (!URL.canParse(target, page)) return undefined;
    const url = new URL(target, page);
    const { hash } = url;
    url.hash = '';
    if (url.protocol !== 'https:' && url.origin !== this.base.origin) return undefined;
    const key = createHash('sha1').update(url.href).digest('hex');
    this.#filesOf(state).set(key, url);
    const name = decodeURIComponent(url.pathname.slice(url.pathname.lastIndexOf('/') + 1));
    return `/files/${key}/${name}${hash}`;
  }
}

type Rewrite = (target: string) => string | undefined;

/** Files beside the wheels with their metadata: further requests for what is in the wheel anyway. */
const METADATA_FIELD = /^(?:data-)?(?:core|dist-info)-metadata$/;

interface Page {
  readonly files: readonly { readonly url: string; readonly [field: string]: unknown }[];
  readonly [field: string]: unknown;
}

function rewriteJson(text: string, rewrite: Rewrite): string {
  const page = JSON.parse(text) as Page;
  const files = page.files.flatMap((file) => {
    const url = rewrite(file.url);
    const entries = Object.entries(file).filter(([field]) => !METADATA_FIELD.test(field));
    return url === undefined ? [] : [{ ...Object.fromEntries(entries), url }];
  });
  return JSON.stringify({ ...page, files });
}

function rewriteHtml(text: string, rewrite: Rewrite): string {
  return text
    .replaceAll(/\sdata-(?:dist-info|core)-metadata(?:=(?:"[^"]*"|'[^']*'))?/g, '')
    .replaceAll(
      /(<a\s[^>]*?href=)(?:"([^"]*)"|'([^']*)')/gi,
      (_, start: string, double?: string, single?: string) => {
        const target = (double ?? single ?? '').replaceAll('&amp;', '&');
        return `${start}"${(rewrite(target) ?? '#').replaceAll('&', '&amp;')}"`;
      },
    );
}
