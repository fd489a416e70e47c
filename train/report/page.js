for (const plot of document.querySelectorAll('.plot[data-points]')) {
  const names = plot.dataset.names.split('|');
  const points = plot.dataset.points.split(';').slice(0, -1).map(p => p.split('|'));
  const last = Number(plot.dataset.last);
  const at = plot.appendChild(document.createElement('div'));
  const tip = plot.appendChild(document.createElement('div'));
  at.className = 'at';
  tip.className = 'tip';
  const show = is => { at.hidden = tip.hidden = !is; };
  show(false);
  plot.addEventListener('pointerleave', () => show(false));
  plot.addEventListener('pointermove', event => {
    const box = plot.getBoundingClientRect();
    const step = (event.clientX - box.left) / box.width * last;
    let best = points[0];
    for (const p of points) if (Math.abs(p[0] - step) < Math.abs(best[0] - step)) best = p;
    const share = best[0] / last;
    tip.replaceChildren(...[plot.dataset.x + ' ' + best[0], ...best.slice(1).map((v, i) => v && (names[i] + ' ' + v))]
      .filter(Boolean).map(text => Object.assign(document.createElement('div'), {textContent: text})));
    at.style.left = 100 * share + '%';
    tip.style.left = share < .5 ? 'calc(' + 100 * share + '% + 8px)' : 'auto';
    tip.style.right = share < .5 ? 'auto' : 'calc(' + 100 * (1 - share) + '% + 8px)';
    show(true);
  });
}
