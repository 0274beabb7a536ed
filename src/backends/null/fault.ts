/** Things that go wrong on request, the way they do on real devices. */
import { TsrtError } from '../../errors.ts';
import type { FaultStage, NullOptions } from './options.ts';

/** Fails as the options say, if this is the stage and as many executions have ended well as they ask for. */
export async function maybeFail(options: NullOptions, stage: FaultStage, executions: number): Promise<void> {
  if (options.faultAt !== stage || executions < options.faultAfter) return;
  switch (options.fault) {
    case 'none':
      return;
    case 'error':
      throw new TsrtError('DEVICE_LOST', `the fake device was lost at ${stage}, as asked`, { fix: 'leave out the option fault' });
    case 'out-of-memory':
      throw new TsrtError('OUT_OF_MEMORY', `the fake device has no memory at ${stage}, as asked`, {
        fix: 'leave out the option fault',
      });
    case 'crash':
      // What a native library's fault looks like from outside; nothing of this process runs afterwards.
      process.kill(process.pid, 'SIGSEGV');
      return new Promise<never>(() => {});
    case 'hang':
      // The timer keeps the process alive, as a driver's thread would.
      return new Promise<never>(() => setInterval(() => {}, 2 ** 30));
    default:
      return options.fault satisfies never;
  }
}
