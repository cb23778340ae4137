/**
 * What of this process's globals belongs to a function while it runs: console lines are its log, and `fetch` of another
 * function's name is a call. Outside of invocations both are as they were.
 */
import { formatWithOptions } from 'node:util';
import { currentInvocation } from '../guest/channel/invocation.ts';
import { fromRequest } from '../guest/channel/call-init.ts';
import { LightRequest } from '../guest/web/light-request.ts';
import { LightResponse } from '../guest/web/light-response.ts';

const LEVELS = { log: 'info', info: 'info', debug: 'debug', warn: 'warn', error: 'error' } as const;

/** Of all functions under test. */
const targets = new Set<string>();
let isInstalled = false;

/** Names that are functions for `fetch('http://<name>/…')`, beside `<name>.skiff`. */
export function routeNames(names: Iterable<string>): void {
  install();
  for (const name of names) targets.add(name);
}

function install(): void {
  if (isInstalled) return;
  isInstalled = true;
  // The guest's own classes are instances of the runtime's, as in a sandbox.
  Object.setPrototypeOf(LightRequest.prototype, Request.prototype);
  Object.setPrototypeOf(LightResponse.prototype, Response.prototype);
  captureConsole();
  const realFetch = globalThis.fetch;
  globalThis.fetch = async (input: RequestInfo | URL, init?: RequestInit) => {
    const invocation = currentInvocation.getStore();
    const host = invocation && readHost(input);
    const target = host === undefined ? undefined : readTarget(host);
    if (!invocation || target === undefined) return realFetch(input, init);
    return invocation.call(target, fromRequest(new Request(input, init)));
  };
}

function readHost(input: RequestInfo | URL): string | undefined {
  const url = typeof input === 'object' && 'url' in input ? input.url : String(input);
  return /^http:\/\/([^/?#:@]+)(?:[/?#:]|$)/i.exec(url)?.[1]?.toLowerCase();
}

function readTarget(host: string): string | undefined {
  if (host.endsWith('.skiff')) return host.slice(0, -'.skiff'.length);
  return targets.has(host) ? host : undefined;
}

function captureConsole(): void {
  const real = globalThis.console;
  for (const [name, level] of Object.entries(LEVELS) as [keyof typeof LEVELS, 'info'][]) {
    const print = real[name].bind(real);
    real[name] = (...values: unknown[]) => {
      const invocation = currentInvocation.getStore();
      if (invocation) invocation.log(level, formatWithOptions({ colors: false }, ...values));
      else print(...values);
    };
  }
}
