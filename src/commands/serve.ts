/** `tsrt-bench serve ENGINE...`. */
import { once } from 'node:events';
import { Args, Flags } from '@oclif/core';
import { EXIT, reportError } from '../errors.ts';
import type { ModelSummary } from '../serve/serve.ts';
import { BaseCommand, formatError } from './base.ts';
import { DEVICE_FLAG } from './device-flag.ts';
import { onInterrupt } from './interrupt.ts';
import { parseDelay } from './suite-flags.ts';

/** What was served. */
interface Served {
  readonly address: string;
  readonly models: readonly ModelSummary[];
}

export default class Serve extends BaseCommand {
  static override summary = 'Serve engine files over HTTP, by the Open Inference Protocol';
  static override description =
    "KServe's predict v2, as Triton and its clients speak it, with its binary tensors; Prometheus' metrics at /metrics. Engines of one model with other batches are one model, whose requests are collected into batches. Each model's engines run in a thread of their own. SIGTERM and Ctrl-C answer what is under way and end with 0.";
  static override examples = [
    '<%= config.bin %> serve resnet50.engine',
    '<%= config.bin %> serve resnet50.engine resnet50-b8.engine resnet50-b32.engine --max-queue-delay 2ms',
    '<%= config.bin %> serve small=mobilenet.engine large=resnet50.engine --host 0.0.0.0 --port 8080',
  ];
  static override args = { engine: Args.string({ required: true, multiple: true, description: 'engine files; NAME=FILE names the model' }) };
  static override flags = {
    port: Flags.integer({ description: 'port to listen on; 0: any that is free', default: 8000, min: 0, max: 65_535, helpValue: 'N' }),
    host: Flags.string({ description: 'address to listen on; 0.0.0.0 or :: for all', default: '127.0.0.1', helpValue: 'HOST' }),
    name: Flags.string({ description: "name of the model, where the files have no NAME= [default: the engine's]", helpValue: 'NAME' }),
    'max-queue-delay': Flags.string({ description: 'time that a request waits at most for others while an engine is free, such as 2ms', default: '0ms', helpValue: 'TIME' }),
    'max-queue': Flags.integer({ description: 'items that may wait; further ones are answered with 503 [default: 1000, or the largest batch]', min: 1, helpValue: 'N' }),
    ...DEVICE_FLAG,
  };

  async run(): Promise<Served> {
    const { args, flags } = await this.parse(Serve);
    const maxQueueDelayMs = parseDelay('--max-queue-delay', flags['max-queue-delay']);
    const { serve } = await import('../serve/serve.ts');
    const { signal, dispose } = onInterrupt(() => this.logToStderr('stopping: requests under way will be answered'));
    try {
      const server = await serve({
        ...flags,
        engines: args.engine,
        device: flags.device,
        name: flags.name,
        maxQueueDelayMs,
        maxQueueSize: flags['max-queue'],
        signal,
        onFault: (error) => this.logToStderr(formatError(reportError(error)).join('\n')),
      });
      const { address, models } = server;
      for (const { name, backend, device, batches } of models) this.logToStderr(`${name}: ${backend} on ${device}, ${batches.length === 1 ? 'batch' : 'batches'} ${batches.join(', ')}`);
      this.logToStderr(`listening on ${address}`);
      if (!signal.aborted) await once(signal, 'abort');
      await server.close();
      this.exitWith(EXIT.ok);
      return { address, models };
    } finally {
      dispose();
    }
  }
}
