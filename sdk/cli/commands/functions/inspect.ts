/** `skiff inspect`: one function, what is live, and how it is configured. */
import type { Command } from '@commander-js/extra-typings';
import type { Deployment, FunctionRecord } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import { formatAgo, formatBytes, formatMs } from '../../output/quantities.ts';
import { formatFields } from '../../output/table.ts';
import type { Session } from '../../session.ts';

const EXAMPLES = `
Examples:
  $ skiff inspect hello
  $ skiff inspect hello --json | jq .live[0].config
`;

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
    .option('--json', 'print { function, live: [deployment, …] }')
    .addHelpText('after', EXAMPLES)
    .action(async (name, options) => {
      const client = openClient(session);
      const record = await client.get(name, { signal: session.signal });
      const ids = record.live?.targets.map((target) => target.deployment) ?? [];
      const live = await Promise.all(ids.map((id) => client.deployment(id, { signal: session.signal })));
      if (options.json) return session.output.json({ function: record, live });
      printFunction(session, record);
      for (const deployment of live) {
        const weight =
          record.live?.targets.find((target) => target.deployment === deployment.id)?.weight ?? 0;
        printDeployment(session, deployment, weight);
      }
    });
}

function printFunction({ output: { out } }: Session, record: FunctionRecord): void {
  const fields = formatFields(out, [
    ['name', out.style('bold', record.name)],
    ['url', record.url],
    ['created', formatTime(record.createdMs)],
    ['access', record.access],
    ['sandboxes', record.sandboxes?.toString()],
    ['deployments', String(record.deployments.length)],
  ]);
  for (const line of fields) out.line(line);
}

function printDeployment({ output: { out } }: Session, deployment: Deployment, weight: number): void {
  const { config, image, source } = deployment;
  const network =
    typeof config.network === 'string' ? config.network : `allow ${config.network.allow.join(', ')}`;
  out.line();
  out.line(`${out.style('bold', deployment.id)}  ${weight}% of the traffic`);
  const fields = formatFields(out, [
    ['deployed', formatTime(deployment.createdMs)],
    ['image', image.reference],
    ['size', formatBytes(image.bytes)],
    ['base', image.base?.reference],
    ['source', source && `${source.digest} (${formatBytes(source.bytes)})`],
    ['entry', deployment.entry],
    ['runtime', config.runtime],
    ['memory', formatBytes(config.memory)],
    ['cpu', String(config.cpu)],
    ['timeout', formatMs(config.timeout)],
    ['concurrency', String(config.concurrency)],
    ['scale', `${config.min} to ${config.max} sandboxes`],
    ['keep alive', formatMs(config.keepAlive)],
    ['network', network],
    ['secrets', config.secrets.join(', ') || undefined],
    ['env', Object.keys(config.env).join(', ') || undefined],
    [
      'labels',
      Object.entries(config.labels)
        .map((pair) => pair.join('='))
        .join(', ') || undefined,
    ],
  ]);
  for (const line of fields) out.line(`  ${line}`);
}

function formatTime(atMs: number): string {
  return `${new Date(atMs).toISOString()} (${formatAgo(atMs, Date.now())})`;
}
