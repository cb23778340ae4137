/** The last line of a test run, for scripts: `N passed, N failed` and, when there were any, `, N skipped`. */
import { writeSync } from 'node:fs';
import type { Reporter, TestModule } from 'vitest/node';

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    // A file that could not be loaded has no tests to fail, and an error outside of tests belongs to none.
    let failed = unhandledErrors.length;
    let passed = 0;
    let skipped = 0;
    for (const module of modules) {
      const tests = [...module.children.allTests()];
      const states = tests.map((test) => test.result().state);
      passed += states.filter((state) => state === 'passed').length;
      skipped += states.filter((state) => state === 'skipped').length;
      const failedTests = states.filter((state) => state === 'failed').length;
      failed += failedTests === 0 && !module.ok() ? 1 : failedTests;
    }
    // vitest prints the failures after it told its reporters; this is to be the last line in any case. A run that
    // ends badly without a failed test (a set-up that threw) has failed all the same.
    process.once('exit', (code) => {
      if (code !== 0 && failed === 0) failed = 1;
      writeSync(1, `\n${passed} passed, ${failed} failed${skipped === 0 ? '' : `, ${skipped} skipped`}\n`);
    });
  }
}
