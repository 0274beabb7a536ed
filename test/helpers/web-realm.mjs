/**
 * Loads the built runtime in a realm that has what browsers and Node share and nothing of Node's own, and puts it to work:
 * `node --experimental-vm-modules test/helpers/web-realm.mjs RUNTIME.js ENGINE`. Prints what it found as JSON.
 */
import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { createContext, SourceTextModule } from 'node:vm';

const [runtime, engineFile] = process.argv.slice(2);
const shared = ['crypto', 'performance', 'TextDecoder', 'TextEncoder', 'URL', 'AbortController', 'AbortSignal', 'structuredClone', 'queueMicrotask', 'setTimeout'];
// Typed arrays are Node's, so that WebCrypto, which is Node's too, knows them.
const arrays = ['ArrayBuffer', 'DataView', 'Uint8Array', 'Uint16Array', 'Uint32Array', 'Int8Array', 'Int16Array', 'Int32Array', 'Float32Array', 'Float64Array', 'BigInt64Array', 'BigUint64Array'];
const context = createContext(Object.fromEntries([...shared, ...arrays].map((name) => [name, globalThis[name]])));
const modules = new Map();

/** One module per address, however many import it at once. */
function load(url) {
  const module = modules.get(url) ?? read(url);
  modules.set(url, module);
  return module;
}

async function read(url) {
  if (!url.startsWith('file:')) throw new Error(`the runtime imports ${url}`);
  return new SourceTextModule(await readFile(new URL(url), 'utf8'), { context, identifier: url });
}

const entry = await load(pathToFileURL(runtime).href);
await entry.link((specifier, from) => load(specifier.startsWith('.') ? new URL(specifier, from.identifier).href : specifier));
await entry.evaluate();
const { deserializeEngine, openDevice, loadEngine, fromNumbers, TsrtError } = entry.namespace;
const bytes = new Uint8Array(await readFile(engineFile));
const engine = await deserializeEngine(bytes);
const damaged = await deserializeEngine(bytes.subarray(0, 100)).catch((error) => (error instanceof TsrtError ? error.code : String(error)));
const functions = [deserializeEngine, openDevice, loadEngine, fromNumbers].map((value) => typeof value);
process.stdout.write(JSON.stringify({ backend: engine.header.backend, parts: [...engine.parts.keys()], damaged, functions, modules: modules.size }));
