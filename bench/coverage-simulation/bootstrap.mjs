/** The percentile bootstrap over rounds and then samples (Davison and Hinkley, 1997, §3.8; Efron, 1979), for comparison. */
import { quantile, quantileRank, sortSamples } from '../../dist/src/stats/samples.js';

const RESAMPLES = 300;

/** 95 % intervals of quantiles of all samples. A resample is held as how often each sorted sample was drawn, so that none is sorted. */
export function bootstrapQuantiles(rounds, ps, random) {
  const tagged = rounds.flatMap((round, index) => round.map((value) => ({ value, index }))).sort((a, b) => a.value - b.value);
  const places = rounds.map(() => []);
  for (const [place, { index }] of tagged.entries()) places[index].push(place);
  const counts = new Uint32Array(tagged.length);
  const draws = ps.map(() => []);
  for (let resample = 0; resample < RESAMPLES; resample++) {
    counts.fill(0);
    let total = 0;
    for (let drawn = 0; drawn < rounds.length; drawn++) {
      const round = places[random.below(rounds.length)];
      for (let i = 0; i < round.length; i++) counts[round[random.below(round.length)]]++;
      total += round.length;
    }
    for (const [i, p] of ps.entries()) draws[i].push(countedQuantile(tagged, counts, total, p));
  }
  return draws.map((numbers) => {
    const sorted = sortSamples(numbers);
    return { low: quantile(sorted, 0.025), high: quantile(sorted, 0.975) };
  });
}

/** Type 7, of the multiset that holds the i-th sample `counts[i]` times. */
function countedQuantile(tagged, counts, total, p) {
  const { rank, weight } = quantileRank(total, p);
  let place = 0;
  let seen = counts[0];
  while (seen <= rank) seen += counts[++place];
  const low = tagged[place].value;
  if (weight === 0 || seen > rank + 1) return low;
  do place++;
  while (counts[place] === 0);
  return low + weight * (tagged[place].value - low);
}
