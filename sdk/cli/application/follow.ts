/** Logs of all functions of an application, as they come, each line with the name of its service. */
import type { FunctionRecord, LogLine, LogOptions } from '../../client/index.ts';
import { ApplicationLabel } from '../../compose/function-wish.ts';
import type { CliClient } from '../connection/server.ts';
import type { Style } from '../output/channel.ts';
import { formatLogLine } from '../output/function-text.ts';
import type { Session } from '../session.ts';

const COLOURS: readonly Style[] = ['cyan', 'magenta', 'blue', 'green', 'yellow'];

export async function followApplication(
  session: Session,
  client: CliClient,
  functions: readonly FunctionRecord[],
  options: LogOptions & { readonly isJson?: boolean; readonly hasDate?: boolean },
): Promise<void> {
  const { out } = session.output;
  const services = functions.map(({ name, labels }) => labels?.[ApplicationLabel.service] ?? name);
  const width = Math.max(0, ...services.map((service) => service.length));
  const print = async (line: LogLine, i: number): Promise<void> => {
    const service = services[i] as string;
    if (options.isJson) return out.write(`${JSON.stringify({ service, ...line })}\n`);
    const name = out.style(COLOURS[i % COLOURS.length] as Style, service.padEnd(width));
    await out.write(`${name} ${formatLogLine(out, line, options.hasDate === true)}`);
  };
  if (options.follow) {
    await Promise.all(
      functions.map(async ({ name }, i) => {
        for await (const line of client.logs(name, options)) await print(line, i);
      }),
    );
    return;
  }
  // All at hand: in the order of time, whichever function they are of.
  const all = await Promise.all(
    functions.map(async ({ name }, i) => {
      const lines: (readonly [LogLine, number])[] = [];
      for await (const line of client.logs(name, options)) lines.push([line, i]);
      return lines;
    }),
  );
  for (const [line, i] of all.flat().toSorted(([a], [b]) => a.atMs - b.atMs)) await print(line, i);
}
