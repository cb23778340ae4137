import { functionFixture } from '../../helpers/fixtures.ts';
import { describeSteps } from '../events/describe-steps.ts';
import { describeRuntime } from './conformance.ts';

for (const runtime of ['bun', 'deno']) describeRuntime(runtime, functionFixture('behaviour.ts'));
for (const runtime of ['bun', 'deno']) describeSteps(runtime, runtime, functionFixture('steps.ts'), true);
