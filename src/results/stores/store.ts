/** Opens the place where baselines are kept: a folder, or objects behind HTTP or S3. */
import { join } from 'node:path';
import { TsrtError } from '../../errors.ts';
import { BASELINES_FOLDER } from '../names.ts';
import type { BaselineStore } from './contract.ts';
import { folderStore } from './folder.ts';
import { type HttpOptions, httpObjects } from './http.ts';
import { remoteStore } from './remote.ts';
import { s3Target, type Environment } from './s3.ts';

/** A results folder, whose baselines lie in its folder `baselines`, or a store. */
export type BaselineHome = string | BaselineStore;

export function storeOf(home: BaselineHome): BaselineStore {
  return typeof home === 'string' ? folderStore(join(home, BASELINES_FOLDER)) : home;
}

/**
 * Opens what `--store` names: a folder, `s3://bucket/prefix`, `https://host/path` or `http://host/path`. Credentials come from
 * the environment alone. Throws USAGE for a URL that holds any, or that is of another kind.
 */
export function openStore(store: string, environment: Environment, options: HttpOptions = {}): BaselineStore {
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(store)?.[1]?.toLowerCase();
  if (scheme === undefined) return folderStore(store);
  if (scheme === 's3') return remoteStore(httpObjects(s3Target(store, environment), options));
  if (scheme !== 'https' && scheme !== 'http') {
    throw new TsrtError('USAGE', `baselines can't be kept at ${scheme}://`, { fix: 'name a folder, s3://BUCKET/PREFIX, or an https:// URL with --store' });
  }
  return remoteStore(httpObjects(webTarget(store, environment), options));
}

/** A server that takes GET, PUT and DELETE; with a token where TSRT_BENCH_STORE_TOKEN is set. */
function webTarget(store: string, environment: Environment) {
  const url = parseUrl(store);
  const token = environment['TSRT_BENCH_STORE_TOKEN'];
  if (token && url.protocol === 'http:' && !['localhost', '127.0.0.1', '[::1]'].includes(url.hostname)) {
    throw new TsrtError('USAGE', 'a token is not sent over plain HTTP, where anyone on the way can read it', { place: url.origin, fix: 'use https://, or unset TSRT_BENCH_STORE_TOKEN' });
  }
  const base = url.href.replace(/\/+$/, '');
  return {
    label: base,
    urlOf: (key: string) => `${base}/${key}`,
    headers: async () => (token ? { authorization: `Bearer ${token}` } : {}),
    denied: token ? 'check the token in TSRT_BENCH_STORE_TOKEN, and its permissions' : 'set TSRT_BENCH_STORE_TOKEN to a token that may read and write there',
  };
}

function parseUrl(store: string): URL {
  let url: URL;
  try {
    url = new URL(store);
  } catch (cause) {
    throw new TsrtError('USAGE', '--store is not a valid URL', { fix: 'write it as https://host/path', cause });
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    throw new TsrtError('USAGE', "the URL of a store can't have a user, password, query or fragment", {
      place: `${url.protocol}//${url.host}${url.pathname}`,
      fix: 'give a token in the environment variable TSRT_BENCH_STORE_TOKEN',
    });
  }
  return url;
}
