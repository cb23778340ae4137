import { functionFixture } from '../../helpers/fixtures.ts';
import { describeRuntime } from './conformance.ts';

for (const runtime of ['bun', 'deno']) describeRuntime(runtime, functionFixture('behaviour.ts'));
