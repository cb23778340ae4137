/** `skiff scale`: limits of a function that runs. A change is a new deployment of the same code: nothing is built. */
import type { Command } from '@commander-js/extra-typings';
import { openClient } from '../../connection/server.ts';
import { followDeploy } from '../../deploy/follow.ts';
import { usage } from '../../failure.ts';
import { parseAssignment } from '../../options/parse.ts';
import { formatBytes, formatMs } from '../../output/quantities.ts';
import { formatFields } from '../../output/table.ts';
import type { Session } from '../../session.ts';
import { getLive } from '../functions/env.ts';

const EXAMPLES = `
Examples:
  $ skiff scale hello                               how it scales now
  $ skiff scale hello min=1 max=20 concurrency=10
  $ skiff scale hello memory=512MB cpu=2 keepAlive=10m
  $ skiff rollback hello                            as it was before

Replicas of a service: skiff service scale <service>=<replicas>
`;

const SETTINGS = ['min', 'max', 'concurrency', 'memory', 'cpu', 'keepAlive', 'timeout'] as const;
type Setting = (typeof SETTINGS)[number];

export function define(command: Command, session: Session): void {
  command
    .argument('<function>', 'name of the function')
    .argument('[setting...]', `${SETTINGS.join(', ')}, each as name=value`)
    .option('--json', 'print the settings; after a change { name, url, deployment, image, ms }')
    .addHelpText('after', EXAMPLES)
    .action(async (name, settings, options) => {
      const { out, err } = session.output;
      const client = openClient(session);
      const wanted = Object.fromEntries(settings.map(parseAssignment));
      const unknown = Object.keys(wanted).find((key) => !SETTINGS.includes(key as Setting));
      if (unknown !== undefined)
        throw usage(`"${unknown}" is not a setting`, `there are: ${SETTINGS.join(', ')}`);
      const live = await getLive(client, name, session);
      if (settings.length === 0) {
        const { config } = live;
        if (options.json)
          return session.output.json(Object.fromEntries(SETTINGS.map((key) => [key, config[key]])));
        const shown: readonly (readonly [Setting, string])[] = [
          ['min', String(config.min)],
          ['max', String(config.max)],
          ['concurrency', String(config.concurrency)],
          ['memory', formatBytes(config.memory)],
          ['cpu', String(config.cpu)],
          ['keepAlive', formatMs(config.keepAlive)],
          ['timeout', formatMs(config.timeout)],
        ];
        for (const line of formatFields(out, shown)) out.line(line);
        return;
      }
      const start = { from: live.id, config: wanted, signal: session.signal };
      const result = await followDeploy(session, client, name, start, { isQuiet: options.json === true });
      if (options.json) return session.output.json(result);
      err.line(`${err.style('bold', name)} scales so in ${formatMs(result.ms['total'] ?? 0)}`);
      out.line(result.deployment);
    });
}
