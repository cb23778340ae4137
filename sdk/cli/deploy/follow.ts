/** A deploy as a person follows it: one line for each step. Ctrl-C takes back what was ordered. */
import type { BuildEvent, DeployOptions, DeployResult } from '../../client/index.ts';
import type { CliClient } from '../connection/server.ts';
import { createProgress, type Progress } from '../output/progress.ts';
import type { SourceFile } from '../source/files.ts';
import { readSource } from '../source/pack.ts';
import type { Session } from '../session.ts';

export interface DeployView {
  readonly isQuiet: boolean;
  /** Of the source, for the line of the upload. */
  readonly size?: string;
  /** What the source is packed from, for how far its upload is. */
  readonly files?: readonly SourceFile[] | undefined;
}

/** @throws ClientError when it did not go live; then what was live before is untouched. */
export async function followDeploy(
  session: Session,
  client: CliClient,
  name: string,
  start: DeployOptions,
  { isQuiet, size = '', files }: DeployView,
): Promise<DeployResult> {
  const progress = createProgress(session.output.err, isQuiet);
  let build: string | undefined;
  if (start.source) progress.start('upload', size);
  try {
    const result = await client.deploy(name, {
      ...start,
      ...(files && {
        source: () => readSource({ files }, (percent) => progress.update(`${size}  ${percent} %`)),
      }),
      onUploaded: (upload) => progress.done('upload', upload.ms, size),
      onStarted: (started) => {
        build = started.build;
        progress.start('queue');
      },
      onEvent: (event) => showEvent(progress, event),
    });
    progress.stop();
    return result;
  } catch (error) {
    progress.stop('failed');
    if (session.signal.aborted && build !== undefined) await cancel(client, build, session);
    throw error;
  }
}

const CANCEL_MS_MAX = 3_000;

/** Ctrl-C takes back what was ordered; what was live before stays live. */
async function cancel(client: CliClient, build: string, session: Session): Promise<void> {
  const { err } = session.output;
  try {
    const { state } = await client.cancelBuild(build, { signal: AbortSignal.timeout(CANCEL_MS_MAX) });
    if (state === 'succeeded')
      err.line(`build ${build} had ended already: it is live; take it back with skiff rollback`);
    else if (state === 'cancelled') err.line(`build ${build} is cancelled; nothing was changed`);
    else err.line(`build ${build} is being cancelled`);
  } catch {
    err.line(`build ${build} could not be cancelled and may go on`);
  }
}

export function showEvent(progress: Progress, event: BuildEvent): void {
  if (event.type === 'log') progress.log(event.message);
  if (event.type !== 'step') return;
  if (event.status === 'start') progress.start(event.step, event.detail);
  else progress.done(event.step, event.ms ?? 0, event.detail);
}
