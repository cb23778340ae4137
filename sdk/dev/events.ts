/** What local development tells whoever shows it. Data only: how it looks is the CLI's business. */
import type { GuestLog } from '../protocol/invocation.ts';

export type DevEvent =
  | { readonly type: 'live'; readonly fn: string; readonly ms: number; readonly changed?: string }
  | { readonly type: 'failed'; readonly fn: string; readonly message: string }
  | { readonly type: 'log'; readonly fn: string; readonly log: GuestLog; readonly invocation?: string }
  | {
      readonly type: 'output';
      readonly fn: string;
      readonly source: 'stdout' | 'stderr';
      readonly line: string;
    }
  | {
      readonly type: 'request';
      readonly fn: string;
      readonly method: string;
      readonly path: string;
      /** Absent when the caller left first. */
      readonly status?: number;
      readonly ms: number;
      readonly stack?: string;
    }
  | { readonly type: 'warning'; readonly fn: string; readonly message: string };

export type DevListener = (event: DevEvent) => void;
