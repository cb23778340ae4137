/**
 * The dashboard's page as files in memory. The script is bundled when it is first asked for: a gateway whose dashboard
 * nobody opens pays nothing, and there is no build step that could be forgotten.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../../infra/lib/log.ts';

export interface PageFile {
  readonly type: string;
  readonly body: string;
  readonly etag: string;
}

const PAGE = join(import.meta.dirname, 'page');

export class PageFiles {
  readonly #log: Log;
  #files: Promise<ReadonlyMap<string, PageFile>> | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  async tryGet(name: string): Promise<PageFile | undefined> {
    this.#files ??= build();
    try {
      return (await this.#files).get(name);
    } catch (error) {
      this.#files = undefined;
      this.#log.error({ error }, 'the dashboard could not be bundled');
      throw error;
    }
  }
}

async function build(): Promise<ReadonlyMap<string, PageFile>> {
  const [html, css, script] = await Promise.all([
    readFile(join(PAGE, 'index.html'), 'utf8'),
    readFile(join(PAGE, 'style.css'), 'utf8'),
    bundle(),
  ]);
  return new Map([
    ['', createFile('text/html; charset=utf-8', html)],
    ['style.css', createFile('text/css; charset=utf-8', css)],
    ['page.js', createFile('text/javascript; charset=utf-8', script)],
  ]);
}

async function bundle(): Promise<string> {
  const esbuild = await import('esbuild');
  try {
    const { outputFiles } = await esbuild.build({
      entryPoints: [join(PAGE, 'page.ts')],
      bundle: true,
      write: false,
      minify: true,
      format: 'esm',
      platform: 'browser',
      target: 'es2022',
      charset: 'utf8',
      logLevel: 'silent',
    });
    return outputFiles[0]?.text ?? '';
  } finally {
    // Its process is needed once.
    await esbuild.stop();
  }
}

function createFile(type: string, body: string): PageFile {
  return { type, body, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"` };
}
