/** Waits until a service is as it was asked to be, as `docker service create` does, and says what it waits for. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServiceState } from '../../../client/index.ts';
import { openClient } from '../../connection/server.ts';
import type { Session } from '../../session.ts';

const POLL_MS = 300;
/** Then the order stands, and the command ends with exit code 3. */
const WAIT_MS_MAX = 120_000;

export async function waitForService(session: Session, name: string): Promise<ServiceState> {
  const client = openClient(session);
  const deadline = performance.now() + WAIT_MS_MAX;
  let said = '';
  for (;;) {
    const state = await client.services.get(name, { signal: session.signal });
    const status = state.service.updateStatus;
    const isChanging = status?.state === 'updating' || status?.state === 'rolling-back';
    const words = [
      `${state.serving ?? state.running}/${state.desired} running`,
      isChanging ? `${status.state}: ${state.running}/${state.desired} done` : undefined,
      state.message,
    ]
      .filter((part) => part !== undefined)
      .join(' · ');
    if (words !== said) session.output.err.line(`${name}: ${words}`);
    said = words;
    if (!isChanging && state.running === state.desired) return state;
    if (!isChanging && status?.state === 'paused') return state;
    if (performance.now() > deadline) return state;
    await sleep(POLL_MS, undefined, { signal: session.signal });
  }
}
