/** `skiff dev`: run functions here while they are written; every save is live at once. */
import { resolve } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import { type DevFunction, findFunctions } from '../../../dev/source/project.ts';
import { startDevServer } from '../../../dev/server.ts';
import type { EnvSource } from '../../../dev/source/settings.ts';
import { SkiffError } from '../../../protocol/errors.ts';
import { createEventPrinter } from '../../dev/event-printer.ts';
import { startSandboxLoop } from '../../dev/sandbox-loop.ts';
import { CliFailure, usage } from '../../failure.ts';
import { readEnvOptions } from '../../options/env.ts';
import { collect, parseCount } from '../../options/parse.ts';
import { toName } from '../../source/files.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff dev                      the function of this folder, or all in its subfolders
  $ skiff dev hello.ts --port 3000
  $ skiff dev --inspect            attach a debugger: chrome://inspect, or your editor, port 9229
  $ skiff dev -e STAGE=test        variables; those in .env beside the function are there already
  $ skiff dev --sandbox            in real sandboxes of the server on this host

One function answers at /, several at /f/<name> and http://<name>.localhost:<port>.
`;

const PORT_DEFAULT = 8787;
const PORTS_TRIED_MAX = 20;
const INSPECT_PORT_DEFAULT = 9229;

export function define(command: Command, session: Session): void {
  command
    .argument('[path]', 'file or folder', '.')
    .option(
      '-p, --port <port>',
      `port to listen on (default: ${PORT_DEFAULT}, or the next that is free)`,
      parseCount,
    )
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--inspect [port]', `debug with an inspector, on port ${INSPECT_PORT_DEFAULT} unless you say so`)
    .option('--sandbox', 'in real sandboxes, of the server on this host')
    .option('-e, --env <name=value>', 'environment variable; without a value, yours is taken', collect)
    .option('--env-file <file>', 'file with lines NAME=value, above .env', collect)
    .option('--json', 'print every event as a line of JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (path, options) => {
      const functions = await find(session, path);
      const files = (options.envFile ?? []).map((file) => resolve(session.cwd, file));
      const env: EnvSource = { files, values: readEnvOptions(session, options.env ?? [], []) ?? {} };
      const { output } = session;
      const names = functions.map(({ name }) => name);
      const printer = createEventPrinter(output, names, session.cwd);
      const onEvent = options.json
        ? (event: object) => output.out.line(JSON.stringify(event))
        : (event: Parameters<typeof printer.print>[0]) => printer.print(event);
      if (options.sandbox) {
        if (options.inspect !== undefined) throw usage('--inspect needs a process here; leave --sandbox out');
        const loop = await startSandboxLoop(session, functions, env, onEvent);
        printUrls(session, functions, (fn) => loop.urls.get(fn.name) as string, options.json);
        return untilStopped(session, () => loop.close());
      }
      output.err.line(
        output.err.style('yellow', 'not isolated: ') +
          'functions run as you, with your files and network; --sandbox runs them in real sandboxes',
      );
      const inspectPort = options.inspect === undefined ? undefined : parseInspectPort(options.inspect);
      const server = await listen(session, options.port, (port) =>
        startDevServer({
          functions,
          cwd: session.cwd,
          host: options.host,
          port,
          env,
          hostEnv: session.env,
          inspectPort,
          hasColor: output.err.isTty,
          onEvent,
        }),
      );
      printUrls(session, functions, (fn) => server.urlOf(fn), options.json);
      if (inspectPort !== undefined) printInspectors(session, functions, inspectPort);
      await untilStopped(session, () => server.close());
    });
}

async function find(session: Session, path: string): Promise<DevFunction[]> {
  let functions;
  try {
    functions = await findFunctions(resolve(session.cwd, path), toName);
  } catch (error) {
    if (!(error instanceof SkiffError)) throw error;
    throw new CliFailure(error.message, { hint: 'write one: skiff init hello' });
  }
  const names = functions.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new CliFailure(`two functions are called "${twice}"; rename one of them`);
  return functions;
}

function parseInspectPort(value: string | true): number {
  return value === true ? INSPECT_PORT_DEFAULT : parseCount(value);
}

/** A port that was asked for must be free; the usual one gives way to the next. */
async function listen<Server>(
  session: Session,
  asked: number | undefined,
  start: (port: number) => Promise<Server>,
): Promise<Server> {
  const first = asked ?? PORT_DEFAULT;
  for (let port = first; ; port++) {
    try {
      return await start(port);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      if (asked !== undefined)
        throw new CliFailure(`port ${asked} is in use`, { hint: 'choose another, or leave --port out' });
      if (port - first >= PORTS_TRIED_MAX) throw error;
      session.output.err.line(`port ${port} is in use; trying ${port + 1}`);
    }
  }
}

function printUrls(
  { output: { out } }: Session,
  functions: readonly DevFunction[],
  urlOf: (fn: DevFunction) => string,
  isJson: boolean | undefined,
): void {
  const width = Math.max(...functions.map(({ name }) => name.length));
  for (const fn of functions) {
    const url = urlOf(fn);
    if (isJson) out.line(JSON.stringify({ type: 'listening', fn: fn.name, url }));
    else out.line(`${out.style('bold', fn.name.padEnd(width))}  ${url}`);
  }
}

function printInspectors(
  { output: { err } }: Session,
  functions: readonly DevFunction[],
  first: number,
): void {
  for (const [i, { name }] of functions.entries())
    err.line(
      `debugger of ${name}: 127.0.0.1:${first + i} (chrome://inspect, or attach your editor); no time-outs`,
    );
}

/** Until Ctrl-C. */
async function untilStopped({ signal }: Session, close: () => Promise<void>): Promise<void> {
  if (!signal.aborted)
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  await close();
}
