/**
 * Kernel locks (flock) on files, held until this process ends, however it ends. That is why not a pid file: a
 * pid file survives kill -9 and lies. Node has no flock of its own, hence the foreign function.
 */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';

const LOCK_EXCLUSIVE = 2;
const LOCK_NOT_BLOCKING = 4;

/** Returns how to release the lock, or undefined when somebody else holds it. The file stays: removing it would race. */
export function tryLock(file: string): (() => void) | undefined {
  const flock = koffi.load('libc.so.6').func('int flock(int fd, int operation)');
  // Node opens with O_CLOEXEC, so no child inherits the lock and outlives us with it.
  const descriptor = openSync(file, 'a', 0o600);
  if (flock(descriptor, LOCK_EXCLUSIVE | LOCK_NOT_BLOCKING) !== 0) {
    closeSync(descriptor);
    return undefined;
  }
  return () => closeSync(descriptor);
}
