/** `skiff deploy`: pack, upload, follow the build, print the URL. */
import type { Command } from '@commander-js/extra-typings';
import { ClientError, type DeployResult } from '../../../client/index.ts';
import { readBuildOptions } from '../../options/build.ts';
import { readEnvOptions } from '../../options/env.ts';
import { collect, parseAssignment, parseCount, parsePercent } from '../../options/parse.ts';
import { openClient } from '../../connection/server.ts';
import { followDeploy } from '../../deploy/follow.ts';
import { readNetwork } from '../../options/network.ts';
import { inNamespace } from '../../options/namespace.ts';
import { usage } from '../../failure.ts';
import { formatMs } from '../../output/quantities.ts';
import { chooseSubject, type What } from '../../source/subject.ts';
import type { Session } from '../../session.ts';
import { getLive } from './env.ts';

const EXAMPLES = `
Examples:
  $ skiff deploy hello.ts                          one file, with what it imports from beside it
  $ skiff deploy ./api --name api --memory 512MB   a folder with a package.json
  $ skiff deploy -e STAGE=test -e API_KEY          API_KEY is taken from your environment
  $ cat hello.ts | skiff deploy - --name hello     or an archive: tar c . | skiff deploy - --name api
  $ skiff deploy --file Containerfile ./shop       an image is built of it, FROM skiff/node:26 or others
  $ skiff deploy --image host:5000/shop:1.4        an image that listens on $PORT
  $ skiff deploy resize.ts --namespace team        as team.resize
  $ url=$(skiff deploy hello.ts)                   only the URL is on stdout

A folder is sent without node_modules, .git, .env files and what .gitignore and .skiffignore name.
`;

interface Plan {
  readonly name: string;
  readonly config: Record<string, unknown>;
  readonly entry: string | undefined;
  readonly isJson: boolean;
}

export function define(command: Command, session: Session): void {
  addOptions(command).action(async (path, options) => {
    using subject = await chooseSubject(path, options, session);
    const name = nameOf(options.name ?? subject.name, options.namespace, path);
    const config = {
      runtime: options.runtime,
      memory: options.memory,
      cpu: options.cpu,
      timeout: options.timeout,
      concurrency: options.concurrency,
      min: options.min,
      max: options.max,
      keepAlive: options.keepAlive,
      rollbackAt: options.rollbackAt,
      secrets: options.secret,
      calls: options.calls,
      network: readNetwork(options.network),
      access: options.access,
      runtimeClass: options.runtimeClass,
      env: await readEnv(session, name, options),
      async: options.async && Object.fromEntries(options.async.map(parseAssignment)),
      build: readBuildOptions(options),
      labels: options.label && Object.fromEntries(options.label.map(parseAssignment)),
    };
    const plan: Plan = {
      name,
      config,
      entry: options.file ?? options.entry ?? subject.entry,
      isJson: options.json === true,
    };
    const start = { ...plan, ...subject.what, canary: options.canary, signal: session.signal };
    if (options.detach) await order(start, session);
    else {
      const result = await followDeploy(session, openClient(session), name, start, {
        isQuiet: plan.isJson && !session.output.err.isTty,
        size: subject.size,
        files: subject.files,
      });
      printResult(result, plan, session);
    }
  });
}

function addOptions(command: Command) {
  return command
    .argument('[path]', 'file, folder, or - for a module or archive on standard input', '.')
    .optionsGroup('What to deploy:')
    .option('-n, --name <name>', 'name of the function (default: of the package, file or folder)')
    .option('--namespace <namespace>', 'makes the name <namespace>.<name>')
    .option('--entry <file>', 'module inside the folder that has the handler')
    .option('-f, --file <containerfile>', 'Containerfile inside the folder, in place of a handler')
    .option('--image <reference>', 'an image that listens on $PORT, in place of a source')
    .option('--build-arg <name=value>', 'value of an ARG of the Containerfile', collect)
    .option('--target <stage>', 'stage of the Containerfile that becomes the image (default: the last)')
    .option('--build-network <policy>', 'what RUN steps of the Containerfile reach: as --network', collect)
    .option('--install-scripts', 'let packages run their install scripts, in the sandbox that installs them')
    .optionsGroup('How it runs:')
    .option('--runtime <runtime>', 'node:26, node:24, node:22, python:3.11 …')
    .option('-m, --memory <size>', 'memory of a sandbox, such as 256MB')
    .option('--cpu <cores>', 'cores of a sandbox, such as 0.5')
    .option('--timeout <duration>', 'of one invocation, such as 30s')
    .option('--concurrency <n>', 'invocations in one sandbox at a time', parseCount)
    .option('--min <n>', 'sandboxes kept when idle', parseCount)
    .option('--max <n>', 'sandboxes at most', parseCount)
    .option('--keep-alive <duration>', 'how long an idle sandbox is kept, such as 5m')
    .option('-e, --env <name=value>', 'environment variable; without a value, yours is taken', collect)
    .option('--env-file <file>', 'file with lines NAME=value', collect)
    .option('--keep-env', 'keep the variables of the live deployment that are not given anew')
    .option('-s, --secret <name>', 'secret it is given, as variable and as file of /run/secrets', collect)
    .option('--calls <function>', 'function it may call, by its name or as alias=name', collect)
    .option('--network <policy>', 'none, internet, or what it may reach: api.example.com:443', collect)
    .option('--access <access>', 'public or private')
    .option('--runtime-class <class>', 'container runtime that the server offers, such as runc')
    .option('-l, --label <name=value>', 'label', collect)
    .option(
      '--rollback-at <percent>',
      'errors above those of the deployment before, to go back; 0: never',
      parseCount,
    )
    .option('--async <name=value>', 'of its events: retries=5, backoff=30s, maxAge=6h', collect)
    .optionsGroup('Options:')
    .option('--canary <percent>', 'share of the traffic it gets; the live one keeps the rest', parsePercent)
    .option('-d, --detach', 'order the build and do not wait for it')
    .option('--json', 'print { name, url, deployment, image, ms }')
    .addHelpText('after', EXAMPLES);
}

interface EnvOptions {
  readonly env?: readonly string[] | undefined;
  readonly envFile?: readonly string[] | undefined;
  readonly keepEnv?: true | undefined;
}

/** Of a function that is not there yet nothing can be kept. */
async function readEnv(
  session: Session,
  name: string,
  { env = [], envFile = [], keepEnv }: EnvOptions,
): Promise<Readonly<Record<string, string>> | undefined> {
  const given = readEnvOptions(session, env, envFile);
  if (keepEnv !== true) return given;
  try {
    return { ...(await getLive(openClient(session), name, session)).config.env, ...given };
  } catch (error) {
    if (error instanceof ClientError && error.code === 'FUNCTION_NOT_FOUND') return given;
    throw error;
  }
}

function nameOf(bare: string, namespace: string | undefined, path: string): string {
  if (bare === '') throw usage(`no name can be made of "${path}"`, 'give one: --name hello');
  return inNamespace(bare, namespace);
}

async function order(start: Plan & What & { signal: AbortSignal }, session: Session): Promise<void> {
  const { name } = start;
  const { build, deployment } = await openClient(session).startDeploy(name, start);
  if (start.isJson) session.output.json({ name, build, deployment });
  else session.output.out.line(build);
}

function printResult(result: DeployResult, plan: Plan, { output }: Session): void {
  if (plan.isJson) {
    output.json(result);
    return;
  }
  output.err.line(`${output.err.style('bold', plan.name)} is live in ${formatMs(result.ms['total'] ?? 0)}`);
  output.out.line(result.url);
}
