/**
 * The agent inside a sandbox, bundled to one CommonJS file with nothing but runtime built-ins. It says HELLO on its
 * channel, warms itself if it is to wait (a PING asks for that), is given a function, serves that one until the channel
 * closes, and then ends. Without a channel (an ordinary `docker run -p 8080:8080`) it serves the image's function over HTTP.
 * Crashes are Node's: an uncaught error or unhandled rejection is logged, then the process exits with code 1.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import type { GuestLog, LoadCommand } from '../protocol/invocation.ts';
import { fromRequest } from './channel/call-init.ts';
import { GuestConnection } from './channel/connection.ts';
import { captureConsole } from './report/console-capture.ts';
import { currentInvocation } from './channel/invocation.ts';
import { type LoadedFunction, loadFunction, rehearseLoading } from './loader.ts';
import { patchMemory, patchProcessors } from './machine-facts.ts';
import { describeError, mapStackTraces } from './report/stack-traces.ts';
import { warmUp } from './warm-up.ts';
import { HttpBridge } from './http-server.ts';
import { routeFetch } from './web/globals.ts';

const CHANNEL = process.env.SKIFF_CHANNEL ?? '/run/skiff/channel.sock';
/** EX_PROTOCOL of sysexits.h. */
const EXIT_PROTOCOL = 76;
const STEM_TITLE = 'skiff stem';
/** How long last words may take to leave. */
const FLUSH_MS_MAX = 200;

/** What a process is told of its function, before it is loaded. */
function prepare(command: LoadCommand): void {
  Object.assign(process.env, command.env);
  for (const [name, value] of Object.entries(command.secrets ?? {})) {
    writeFileSync(`/run/secrets/${name}`, value, { mode: 0o400 });
  }
  process.title = `skiff ${command.functionName}`;
  if (command.memoryBytes > 0) patchMemory(process, command.memoryBytes);
}

async function load(command: LoadCommand): Promise<LoadedFunction> {
  prepare(command);
  return loadFunction(command.entry);
}

function onCrash(report: (text: string) => void, exit: () => void): void {
  process.on('uncaughtException', (error, origin) => {
    const { message, stack } = describeError(error);
    report(
      `${origin === 'unhandledRejection' ? 'unhandled rejection' : 'uncaught error'}: ${stack ?? message}`,
    );
    // A listener of the function's own takes the decision over, as in any Node program.
    if (process.listenerCount('uncaughtException') === 1) exit();
  });
}

async function callByFetch(target: string, read: () => Request): Promise<Response> {
  const invocation = currentInvocation.getStore();
  if (!invocation)
    throw new TypeError(
      `a call of "${target}" outside of an invocation; functions call each other while they are called`,
    );
  return invocation.call(target, fromRequest(read()));
}

let rehearsal: Promise<void> | undefined;

function rehearse(): Promise<void> {
  return (rehearsal ??= warmUp(async (command) => {
    prepare(command);
    process.title = STEM_TITLE;
    return rehearseLoading(command.entry);
  }));
}

function serveChannel(): void {
  process.title = STEM_TITLE;
  const socket = connect(CHANNEL);
  let exitCode = 0;
  const exitSoon = (code: number): void => {
    exitCode = code;
    connection.writer.flush();
    socket.end(() => process.exit(code));
    setTimeout(() => process.exit(code), FLUSH_MS_MAX);
  };
  const connection = new GuestConnection({
    write: (bytes, done) => void socket.write(bytes, done),
    load,
    rehearse,
    env: process.env,
    unsentBytes: () => socket.writableLength,
    onLoadFailed: () => exitSoon(1),
    onDrained: () => exitSoon(0),
  });
  const log = (level: GuestLog['level'], message: string): void => {
    connection.log(currentInvocation.getStore()?.stream ?? 0, level, message);
  };
  routeFetch((host, read) => {
    const target = connection.calls.tryTarget(host);
    return target === undefined ? undefined : callByFetch(target, read);
  });
  captureConsole(log);
  onCrash(
    (text) => log('error', text),
    () => exitSoon(1),
  );
  process.on('SIGTERM', () => connection.drain());
  socket.on('data', (bytes: Buffer) => {
    try {
      connection.receive(bytes);
    } catch (error) {
      log('error', `the runner broke the protocol: ${describeError(error).message}`);
      exitSoon(EXIT_PROTOCOL);
    }
  });
  socket.on('error', () => process.exit(exitCode));
  socket.on('close', () => process.exit(exitCode));
  connection.hello(`node ${process.version}`, process.pid);
}

async function serveHttp(): Promise<void> {
  const entry = process.env.SKIFF_ENTRY;
  if (entry === undefined)
    throw new Error(`no channel at ${CHANNEL} and no SKIFF_ENTRY: there is nothing to serve`);
  const { handler } = await loadFunction(entry);
  const { server, connection } = new HttpBridge({
    handler,
    functionName: process.env.SKIFF_FUNCTION ?? 'function',
    env: process.env,
    onLog: (line) =>
      printLine(line.level, line.fields ? `${line.message} ${JSON.stringify(line.fields)}` : line.message),
    onDrained: () => process.exit(0),
  });
  onCrash(
    (text) => printLine('error', text),
    () => process.exit(1),
  );
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => {
      server.close();
      server.closeIdleConnections();
      connection.drain();
    });
  }
  server.listen(Number(process.env.PORT ?? 8080), '0.0.0.0', () => {
    printLine('info', `listening on port ${(server.address() as AddressInfo).port}`);
  });
}

function printLine(level: GuestLog['level'], message: string): void {
  (level === 'error' || level === 'warn' ? process.stderr : process.stdout).write(`${message}\n`);
}

mapStackTraces();
patchProcessors();

async function start(): Promise<void> {
  return existsSync(CHANNEL) ? serveChannel() : serveHttp();
}

start().catch((error: unknown) => {
  process.stderr.write(`skiff guest: ${describeError(error).stack ?? describeError(error).message}\n`);
  process.exit(1);
});
