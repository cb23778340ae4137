/** `skiff replay`: a recorded event again, against another deployment or a function that runs here. */
import type { Command } from '@commander-js/extra-typings';
import { httpFetch } from '../../connection/http-fetch.ts';
import { openClient } from '../../connection/server.ts';
import { ExitCode } from '../../failure.ts';
import type { Session } from '../../session.ts';
import { describeState } from './invocation.ts';

const EXAMPLES = `
Examples:
  $ skiff replay inv-01k…                          as a new event, against what is live; prints its id
  $ skiff replay inv-01k… --deployment dep-01k…    against a deployment, or an alias such as canary
  $ skiff replay inv-01k… --wait                   and say how it ended
  $ skiff replay inv-01k… --local                  against skiff dev, here; prints the answer
  $ skiff replay inv-01k… --local http://127.0.0.1:3000

The event itself stays as it is; skiff dlq replay runs dead ones again under their own ids.
`;
const DEV_URL = 'http://127.0.0.1:8787';

export function define(command: Command, session: Session): void {
  command
    .argument('<invocation>', 'id of an asynchronous invocation')
    .option('--deployment <id>', 'deployment or alias to run it on (default: what is live)')
    .option('--local [url]', 'send it to a function that runs here')
    .option('--wait', 'wait for its end; exit code 4 unless it succeeded')
    .addHelpText('after', EXAMPLES)
    .action(async (id, options) => {
      const { output, signal } = session;
      const client = openClient(session);
      if (options.local !== undefined) return replayHere(session, id, options.local);
      const { deployment } = options;
      const { id: next } = await client.replayInvocation(id, { deployment, signal });
      output.out.line(next);
      if (!options.wait) return;
      const record = await client.waitFor(next, { signal });
      output.err.line(describeState(output.err, record));
      if (record.state !== 'succeeded') session.exitCode = ExitCode.functionError;
    });
}

async function replayHere(session: Session, id: string, where: string | true): Promise<void> {
  const { signal, output } = session;
  const captured = await openClient(session).capturedRequest(id, { signal });
  const { pathname, search } = new URL(captured.url);
  const base = where === true ? `${DEV_URL}/f/${captured.functionName}` : where.replace(/\/+$/, '');
  const body = Buffer.from(captured.bodyBase64, 'base64');
  const response = await httpFetch(`${base}${pathname}${search}`, {
    method: captured.method,
    headers: [
      ...captured.headers.filter(([name]) => name !== 'host' && name !== 'content-length'),
      ['skiff-invocation-id', id],
    ],
    ...(body.length > 0 ? { body } : {}),
    redirect: 'manual',
    signal,
  });
  for await (const chunk of response.body as AsyncIterable<Buffer>) await output.out.write(chunk);
  if (response.status < 400) return;
  session.exitCode = ExitCode.functionError;
  output.err.line(`the function answered with status ${response.status}`);
}
