/**
 * TCP connections to 127.0.0.1 inside a sandbox's network namespace, without any wire to it: a socket belongs to the
 * namespace in which it was made, so one is made there and used from here.
 * Invariant: the thread is in a foreign namespace only between two system calls without an await; the descriptor of
 * the namespace is opened while its process is known to live, so that a pid that is used again cannot mislead.
 * Works for network namespaces alone: those of mounts and users cannot be joined like this (setns(2)).
 */
import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import koffi from 'koffi';
import { SkiffError } from '../../sdk/protocol/errors.ts';

const CLONE_NEWNET = 0x4000_0000;
const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const ADDRESS_BYTES = 16;

const libc = koffi.load('libc.so.6');
const setns = libc.func('int setns(int fd, int type)') as (fd: number, type: number) => number;
const makeSocket = libc.func('int socket(int domain, int type, int protocol)') as (
  domain: number,
  type: number,
  protocol: number,
) => number;
const connect = libc.func('int connect(int fd, const uint8_t *address, uint32_t bytes)') as (
  fd: number,
  address: Buffer,
  bytes: number,
) => number;
const getPeerName = libc.func('int getpeername(int fd, _Out_ uint8_t *address, _Inout_ uint32_t *bytes)') as (
  fd: number,
  address: Buffer,
  bytes: [number],
) => number;

let home: number | undefined;

export class InnerNetwork {
  readonly #namespace: number;
  #isClosed = false;

  /** Of a process that lives. */
  constructor(pid: number) {
    home ??= openSync('/proc/self/ns/net', 'r');
    this.#namespace = openSync(`/proc/${pid}/ns/net`, 'r');
  }

  /** The connection may still be under way: writes wait for it, and a refusal is its `error`. */
  connect(port: number): Socket {
    return new Socket({ fd: this.#open(port), readable: true, writable: true });
  }

  /** Whether somebody listens there now. */
  async isListening(port: number): Promise<boolean> {
    const fd = this.#open(port);
    try {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return getPeerName(fd, Buffer.alloc(ADDRESS_BYTES), [ADDRESS_BYTES]) === 0;
    } finally {
      closeSync(fd);
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.#namespace);
  }

  #open(port: number): number {
    if (this.#isClosed) throw new SkiffError('CRASHED', 'the sandbox has ended');
    if (setns(this.#namespace, CLONE_NEWNET) !== 0)
      throw new SkiffError('INTERNAL', `the network of a sandbox cannot be entered (errno ${koffi.errno()})`);
    const fd = makeSocket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (setns(home as number, CLONE_NEWNET) !== 0) {
      // Every further connection of this process would be made inside the sandbox: nothing can go on.
      process.abort();
    }
    if (fd < 0) throw new SkiffError('INTERNAL', `no socket (errno ${koffi.errno()})`);
    // Not blocking: the answer, EINPROGRESS or a refusal, is seen by whoever uses the descriptor.
    connect(fd, encodeAddress(port), ADDRESS_BYTES);
    return fd;
  }
}

/** struct sockaddr_in of 127.0.0.1. */
function encodeAddress(port: number): Buffer {
  const address = Buffer.alloc(ADDRESS_BYTES);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.set([127, 0, 0, 1], 4);
  return address;
}
