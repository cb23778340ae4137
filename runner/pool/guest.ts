/** What an instance needs of the program in its sandbox, whether that speaks our frames or plain HTTP. */
import type { Frame } from '../../sdk/protocol/frame.ts';
import type { Sandbox, SandboxExit } from '../../infra/sandbox/contract.ts';
import type { HealthCheck } from './health.ts';

export interface GuestHandlers {
  /** RESPONSE, DATA, WINDOW, ERROR, SETTLED of an open stream. */
  onStreamFrame(frame: Frame): void;
  /** CALL, CALL_DATA, CALL_WINDOW and CALL_CANCEL. */
  onCallFrame(frame: Frame): void;
  onLog(stream: number, payload: Buffer): void;
  onOutput(source: 'stdout' | 'stderr', chunk: Buffer): void;
  onExit(exit: SandboxExit): void;
}

export interface Guest {
  readonly id: string;
  readonly sandbox: Sandbox;
  readonly exited: Promise<SandboxExit>;
  readonly stderrTail: string;
  /** What it did against the protocol, if it did. */
  readonly violation: string | undefined;
  handlers: GuestHandlers | undefined;
  /** Absent where calls alone show that it hangs. */
  readonly health?: HealthCheck;
  openStream(): number;
  /** REQUEST, DATA, WINDOW and CANCEL of an open stream. */
  send(type: number, stream: number, payload?: Buffer): void;
  /** A frame that moves no call on: too many of them are read slowly. */
  chatter(frame: Frame): void;
  violate(what: string): void;
  kill(): void;
  /** As `kill`, after its program had time to end by itself; absent where it has nothing that it could lose. */
  end?(): void;
}
