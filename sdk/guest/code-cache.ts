/** Makes the V8 code cache that loader.ts reads. Must run on the very runtime that will load it. */
import { Module } from 'node:module';
import vm from 'node:vm';

/** Output: the content of `<filename>.cache`. Throws SyntaxError when the source does not compile. */
export function createCodeCache(source: string, filename: string): Buffer {
  return new vm.Script(Module.wrap(source), { filename }).createCachedData();
}
