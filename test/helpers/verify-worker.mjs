/** A worker for tests of the pool: does what the case's name says. */
import { writeFileSync } from 'node:fs';

let opened = 0;
process.on('message', (request) => {
  if (request.kind === 'open') {
    opened++;
    if (request.backend === 'missing') process.send({ kind: 'failed', error: { code: 'BACKEND_UNAVAILABLE', message: 'no such device', fix: 'buy one' } });
    else process.send({ kind: 'opened' });
    return;
  }
  if (request.kind === 'bye') {
    if (process.env.VERIFY_CLINGS) return;
    if (process.env.VERIFY_LEFT) writeFileSync(process.env.VERIFY_LEFT, 'left');
    process.exit();
  }
  const { name, modelFile } = request.testCase;
  if (name.startsWith('crash')) {
    process.stderr.write('a driver says goodbye\n');
    setImmediate(() => process.kill(process.pid, 'SIGKILL'));
  } else if (name.startsWith('exit')) process.exit(3);
  else if (!name.startsWith('hang')) {
    const notices = [`pid ${process.pid}`, `opened ${opened}`, `env ${process.env.VERIFY_TEST}`];
    process.send({ kind: 'checked', result: { name, modelFile, status: 'passed', comparedWith: 'reference', outputs: [], notices } });
  }
});
