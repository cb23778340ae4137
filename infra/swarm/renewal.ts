/**
 * Renews this node's certificate when two thirds of its life are over. Invariant: until the new one is written, the old
 * one is used; a renewal that fails is tried again, and a certificate is never used past its end by whoever checks it.
 */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Log } from '../lib/log.ts';
import { createKeyPair } from './certificates.ts';
import { identityPaths, replaceCertificate } from './identity.ts';

export interface RenewalOptions {
  readonly identityDir: string;
  readonly log: Log;
  /** Gets a certificate for a public key (PEM); undefined when this process is not the one that renews here. */
  request(publicKey: string): Promise<string | undefined>;
  /** Whoever listens with the old one must change. */
  onRenewed(): Promise<void>;
}

const LOOK_MS_MAX = 600_000;
const LOOK_MS_MIN = 250;

export class Renewal {
  readonly #options: RenewalOptions;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: RenewalOptions) {
    this.#options = options;
    this.#plan();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #plan(): void {
    const dueMs = tryReadDueMs(this.#options.identityDir);
    const waitMs = dueMs === undefined ? LOOK_MS_MAX : dueMs - Date.now();
    this.#timer = setTimeout(
      () => void this.#look().finally(() => this.#plan()),
      Math.min(LOOK_MS_MAX, Math.max(LOOK_MS_MIN, waitMs)),
    );
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const { identityDir, log, request, onRenewed } = this.#options;
    const dueMs = tryReadDueMs(identityDir);
    if (dueMs === undefined || Date.now() < dueMs) return;
    try {
      const keys = createKeyPair();
      const certificate = await request(keys.publicKey);
      if (certificate === undefined) return;
      replaceCertificate(identityDir, certificate, keys.privateKey);
      await onRenewed();
      log.info({ until: new X509Certificate(certificate).validTo }, 'certificate renewed');
    } catch (error) {
      log.warn({ error }, 'the certificate of this node could not be renewed; it is tried again');
    }
  }
}

/** Undefined when there is none. */
export function tryReadDueMs(identityDir: string): number | undefined {
  try {
    const { validFromDate, validToDate } = new X509Certificate(
      readFileSync(identityPaths(identityDir).certificate),
    );
    // A certificate begins one hour before it was made (certificates.ts); that hour is not its life.
    const from = Math.max(validFromDate.getTime() + 3_600_000, 0);
    return from + ((validToDate.getTime() - from) * 2) / 3;
  } catch {
    return undefined;
  }
}
