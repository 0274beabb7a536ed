/**
 * One process in which commands run one after another, each in a folder and an environment of its own: what takes most of a short command's time, loading oclif and the
 * schemas, is done once. The entry is the one that bin/run.js calls, and what is written goes through this process' own streams.
 */
import process from 'node:process';

const { entry, cli, end } = JSON.parse(process.argv[2]);
const { run } = await import(cli);

/** How a command asks for the end of its process. */
class Ended extends Error {
  constructor(code) {
    super('the command ends its process');
    this.code = code;
  }
}

process.exit = (code) => {
  throw new Ended(code ?? process.exitCode ?? 0);
};

const emitters = [process, process.stdout, process.stderr];

const listenersNow = () => emitters.map((emitter) => new Map(emitter.eventNames().map((name) => [name, emitter.rawListeners(name)])));

/** What a command leaves behind in a process that would have ended with it. */
function forget(before) {
  for (const [i, emitter] of emitters.entries()) {
    for (const name of emitter.eventNames()) {
      for (const listener of emitter.rawListeners(name)) if (!before[i].get(name)?.includes(listener)) emitter.removeListener(name, listener);
    }
  }
  // With --json, a command has both streams write to one place.
  delete process.stdout.write;
  process.exitCode = undefined;
}

function setEnvironment(env) {
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  Object.assign(process.env, env);
}

async function statusOf(words) {
  try {
    await run(words, entry);
    return process.exitCode ?? 0;
  } catch (error) {
    if (error instanceof Ended) return error.code;
    throw error;
  }
}

process.on('message', async ({ words, folder, env }) => {
  const before = listenersNow();
  process.chdir(folder);
  setEnvironment(env);
  const status = await statusOf(words);
  // Warnings are written a turn late.
  await new Promise((resolve) => void setImmediate(resolve));
  // What is removed when a process exits is removed now.
  for (const listener of process.rawListeners('exit')) if (!before[0].get('exit')?.includes(listener)) listener.call(process, status);
  forget(before);
  for (const stream of [process.stdout, process.stderr]) stream.write(end);
  process.send({ status });
});
