/**
 * Which idle sandboxes end, as rules: who is first when room is needed, and who has been idle for too long. Pure.
 *
 * Greedy-dual-size-frequency: priority = clock + uses * cold cost / memory. Whoever evicts raises its clock to the
 * priority of the victim, so that old fame fades.
 */
export interface Kept {
  readonly uses: number;
  /** What starting it again would take. */
  readonly coldMs: number;
  readonly memoryBytes: number;
}

export function priorityOf(clock: number, { uses, coldMs, memoryBytes }: Kept): number {
  return clock + (uses * coldMs) / (memoryBytes / 1024 ** 2);
}

export function isOverdue(lastUsedMs: number, keepAliveMs: number, nowMs: number): boolean {
  return nowMs - lastUsedMs >= keepAliveMs;
}
