/** What a handler of the table is given and gives back. */
import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import type { z } from 'zod';
import type { Scope, TokenRecord } from '../../sdk/protocol/api.ts';
import { ROUTES, type RouteId, type RouteSpec } from './table.ts';

export interface RequestVariables {
  readonly requestId: string;
  /** Who asks; absent on public routes. */
  readonly token?: TokenRecord;
}

export type ApiContext = Context<{ Bindings: HttpBindings; Variables: RequestVariables }>;

type PathParameters<Path extends string> = Path extends `${string}:${infer Name}/${infer Rest}`
  ? { readonly [key in Name]: string } & PathParameters<`/${Rest}`>
  : Path extends `${string}:${infer Name}`
    ? { readonly [key in Name]: string }
    : unknown;

type OutputOf<Schema> = Schema extends z.ZodType ? z.output<Schema> : undefined;

export type RouteInput<Spec extends RouteSpec> = PathParameters<Spec['path']> & {
  readonly query: OutputOf<Spec['query']>;
  readonly body: OutputOf<Spec['body']>;
  /** Fires when the client left. */
  readonly signal: AbortSignal;
};

/** Returns the data of the table's `response` (undefined for 204), or a Response for anything that is not JSON. */
export type Handler<Id extends RouteId> = (
  input: RouteInput<(typeof ROUTES)[Id]>,
  context: ApiContext,
) => Promise<
  OutputOf<(typeof ROUTES)[Id] extends { response: infer Schema } ? Schema : undefined> | Response
>;

export type Handlers = { readonly [Id in RouteId]: Handler<Id> };

/** What a token's scope includes besides itself. */
const INCLUDED: Readonly<Record<Scope, readonly Scope[]>> = {
  admin: ['deploy', 'invoke', 'read'],
  deploy: ['read'],
  invoke: [],
  read: [],
};

export function grants(scopes: readonly Scope[], needed: Scope): boolean {
  return scopes.some((scope) => scope === needed || INCLUDED[scope].includes(needed));
}
