/** What the compiler knows of functions: checked by `npm run check`, as types are gone when this runs. */
import { expectTypeOf, test } from 'vitest';
import { z } from 'zod';
import {
  defineFunction,
  type InputOf,
  type ItemOf,
  type Json,
  type OutputOf,
} from '../../../sdk/authoring/index.ts';
import type { Client } from '../../../sdk/client/index.ts';
import { createTestFunction } from '../../../sdk/testing/index.ts';

const greet = defineFunction({
  config: { memory: '128MB' },
  handle: (input: { readonly name: string }) => ({
    text: input.name,
    at: new Date(),
    size: 1n,
    run: () => 1,
  }),
});
const checked = defineFunction({
  input: z.object({ n: z.coerce.number<string>(), tags: z.array(z.string()).default([]) }),
  handle: ({ n, tags }) => n + tags.length,
});
const numbers = defineFunction({
  async *handle(input: { readonly to: number }) {
    for (let n = 0; n < input.to; n++) yield { n, at: new Date() };
  },
});
const plain = defineFunction(() => new Response('plain'));

declare const skiff: Client;
declare const known: Client<Response, { greet: typeof greet; numbers: typeof numbers; plain: typeof plain }>;

test('a function says what it takes and answers', () => {
  expectTypeOf<InputOf<typeof greet>>().toEqualTypeOf<{ readonly name: string }>();
  expectTypeOf<OutputOf<typeof greet>>().toEqualTypeOf<{ text: string; at: string }>();
  expectTypeOf<InputOf<typeof checked>>().toEqualTypeOf<{ n: string; tags?: string[] | undefined }>();
  expectTypeOf<OutputOf<typeof checked>>().toEqualTypeOf<number>();
  expectTypeOf<ItemOf<typeof numbers>>().toEqualTypeOf<{ n: number; at: string }>();
  expectTypeOf<OutputOf<typeof numbers>>().toBeNever();
  expectTypeOf<ItemOf<typeof greet>>().toBeNever();
  expectTypeOf<InputOf<typeof plain>>().toBeUnknown();
  expectTypeOf<OutputOf<typeof plain>>().toBeUnknown();
});

test('json keeps what it can', () => {
  expectTypeOf<Json<{ a: (Date | null)[]; b?: number; c: [string, 1] }>>().toEqualTypeOf<{
    a: (string | null)[];
    b?: number;
    c: [string, 1];
  }>();
});

test('a client infers from the function that is named, or from its name', () => {
  expectTypeOf(() => skiff.invoke<typeof greet>('greet', { name: '' })).returns.resolves.toEqualTypeOf<{
    text: string;
    at: string;
  }>();
  expectTypeOf(() => known.invoke('greet', { name: '' })).returns.resolves.toHaveProperty('text');
  expectTypeOf(() => known.stream('numbers', { to: 1 })).returns.toEqualTypeOf<
    AsyncGenerator<{ n: number; at: string }, void, undefined>
  >();
  expectTypeOf(() => skiff.invoke('any')).returns.resolves.toBeUnknown();
  // @ts-expect-error the input has a name
  expectTypeOf(() => skiff.invoke<typeof greet>('greet')).returns.resolves.toBeObject();
  // @ts-expect-error no function of this name is known
  expectTypeOf(() => known.invoke('gret', { name: '' })).returns.resolves.toBeNever();
});

test('a handler of HTTP gets its parameters, and a test its input', () => {
  defineFunction((request, context) => {
    expectTypeOf(request).toEqualTypeOf<Request>();
    expectTypeOf(context.deadline).toEqualTypeOf<Date>();
    return new Response();
  });
  const fn = createTestFunction(greet);
  expectTypeOf(fn.invoke).parameters.toEqualTypeOf<[input: { readonly name: string }]>();
});
