/**
 * Tests of functions, published as `skiff/testing`: in this process, on the guest of a sandbox (`createTestFunction`), and
 * in a real sandbox of a running server, deployed for the test and removed after it (`deployTestFunction`).
 * Invariant: a handler meets the same rules in both. Deliberately absent: a test framework; use any.
 */
export {
  createTestFunction,
  type TestFunction,
  type TestFunctionOptions,
  type TestLog,
  type TestTarget,
} from './in-process.ts';
export { deployTestFunction, type DeployedTestFunction, type DeployTestOptions } from './sandbox.ts';
export { ClientError, type ClientErrorCode } from '../client/error.ts';
