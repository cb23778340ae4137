/**
 * A strict sandbox has no /proc/meminfo, /proc/cpuinfo or cgroup files, so the runtime's answers about the machine
 * are empty or absurd (a negative memory size). These are the sandbox's own facts instead.
 */
import os from 'node:os';

function put(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, configurable: true, writable: true, enumerable: true });
}

export function patchProcessors(): void {
  if (os.cpus().length > 0) return;
  const cpu = { model: 'sandbox', speed: 0, times: { user: 0, nice: 0, sys: 0, idle: 0, irq: 0 } };
  // availableParallelism() asks the scheduler, not /proc.
  put(os, 'cpus', () =>
    Array.from({ length: os.availableParallelism() }, () => ({ ...cpu, times: { ...cpu.times } })),
  );
}

/** @param memoryBytes the sandbox's limit */
export function patchMemory(process: NodeJS.Process, memoryBytes: number): void {
  const free = (): number => Math.max(0, memoryBytes - process.memoryUsage.rss());
  put(os, 'totalmem', () => memoryBytes);
  put(os, 'freemem', free);
  put(process, 'constrainedMemory', () => memoryBytes);
  put(process, 'availableMemory', free);
}
