/**
 * Functions of JSON: a value goes in, a value (or a stream of them) comes out, and both have types that a caller can
 * infer from the function. Types only: sdk/authoring makes such functions, sdk/client calls them.
 */
import type { FunctionModule } from '../context.ts';

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

export type SchemaResult<Parsed> =
  | { readonly value: Parsed; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

/** Standard Schema 1, which zod, valibot, arktype and others speak: https://standardschema.dev */
export interface InputSchema<Input, Parsed> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Parsed> | Promise<SchemaResult<Parsed>>;
    readonly types?: { readonly input: Input; readonly output: Parsed } | undefined;
  };
}

/** A function whose types callers infer: `skiff.invoke<typeof resize>('resize', { width: 10 })`. */
export interface JsonFunction<Input, Output> extends FunctionModule {
  /** For the compiler; nothing is there at run time. */
  readonly '~types'?: { readonly input: Input; readonly output: Output };
}

/** What becomes of a value on its way through JSON: dates are strings, functions and symbols are gone. */
export type Json<Value> = unknown extends Value
  ? unknown
  : Value extends { toJSON(): infer Plain }
    ? Json<Plain>
    : Value extends string | number | boolean | null | undefined
      ? Value
      : Value extends bigint | symbol | ((...args: never[]) => unknown)
        ? never
        : Value extends readonly unknown[]
          ? { [Index in keyof Value]: Json<Value[Index]> }
          : { [Key in keyof Value as Json<Value[Key]> extends never ? never : Key]: Json<Value[Key]> };

type TypesOf<F> = F extends { readonly '~types'?: infer Types } ? NonNullable<Types> : unknown;

/** What a function takes; `unknown` when it does not say. */
export type InputOf<F> = TypesOf<F> extends { readonly input: infer Input } ? Input : unknown;

type RawOutputOf<F> = TypesOf<F> extends { readonly output: infer Output } ? Output : unknown;

/** What a function answers, as it arrives. `never` for one that streams: see ItemOf. */
export type OutputOf<F> = RawOutputOf<F> extends AsyncIterable<unknown> ? never : Json<RawOutputOf<F>>;

/** What a function streams, one at a time; `never` for one that does not. */
export type ItemOf<F> =
  unknown extends RawOutputOf<F>
    ? unknown
    : RawOutputOf<F> extends AsyncIterable<infer Item>
      ? Json<Item>
      : never;

/** A stream of values on the wire: one JSON text a line. */
export const STREAM_MEDIA_TYPE = 'application/x-ndjson';
