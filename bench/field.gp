# SPDX-License-Identifier: MIT
# gnuplot -c field.gp DATA STEM: objects that wait to be freed over the time of a round, a small plot per contender, as
# STEM.svg and STEM.png. DATA is what weir-bench-field writes: per contender and number of threads a block "name,
# title, threads, milliseconds until the last object was handed over", and one of "milliseconds, objects".
data = ARG1
stem = ARG2

field(k, n) = system(sprintf("grep '^\"' '%s' | sed -n '%dp' | cut -d '\"' -f %d", data, k + 1, n))
name(k) = field(k, 2)
title(k) = field(k, 4)
threads(k) = int(word(field(k, 5), 1))
handed(k) = word(field(k, 5), 2) + 0

curves = int(system(sprintf("grep -c '^\"' '%s'", data)))
plots = 0
do for [k = 0 : curves - 1] {
    if (k == 0 || name(k) ne name(k - 1)) { plots = plots + 1 }
}
most = 0
many = 1
do for [k = 0 : curves - 1] {
    stats data index 2 * k + 1 using 2 nooutput
    most = STATS_max > most ? STATS_max : most
    many = threads(k) > many ? threads(k) : many
}
allocator = word(system(sprintf("echo '%s'", title(0))), 1)
allocator = allocator[1 : strlen(allocator) - 1]
plots_in_line = 3
lines_of_plots = int((plots + plots_in_line - 1) / plots_in_line)

ink = "#303030"
set border 3 lc rgb "#707070"
set tics nomirror out textcolor rgb ink font ",11"
set grid ytics lt 1 lc rgb "#e4e4e4" lw 1
set logscale y
set yrange [100 : 10 ** ceil(log10(most))]
set format y "10^{%L}"
unset key

do for [format in "svg png"] {
    if (format eq "svg") {
        set terminal svg size 960, 84 + 230 * lines_of_plots font "DejaVu Sans,13" background "white" dynamic
    } else {
        set terminal pngcairo size 1440, 126 + 345 * lines_of_plots font "DejaVu Sans,13" fontscale 1.2 linewidth 1.5 \
            background "white"
    }
    set output stem . "." . format
    high = 84.0 / (84 + 230 * lines_of_plots)
    set multiplot layout lines_of_plots, plots_in_line margins 0.07, 0.98, 0.07, 1 - high spacing 0.06, 0.11 \
        title "Objects handed over and not yet freed, over the time of a round: " . allocator font ",15" offset 0, -0.3
    set label 11 (many == 1 ? "" : "one thread") at screen 0.07, 1 - 0.5 * high left textcolor rgb "#1f5fa8"
    set label 12 (many == 1 ? "" : sprintf("%d threads", many)) at screen 0.18, 1 - 0.5 * high left \
        textcolor rgb "#d08a1d"
    set label 13 "dashed: the last object is handed over; the end: the barrier" at screen 0.98, 1 - 0.5 * high right \
        textcolor rgb ink font ",12"
    k = 0
    do for [plot = 1 : plots] {
        both = k + 1 < curves && name(k + 1) eq name(k)
        set title name(k) noenhanced textcolor rgb ink font ",13" offset 0, -0.5
        set xlabel (plot > plots - plots_in_line ? "milliseconds" : "") textcolor rgb ink font ",11" offset 0, 0.6
        set xrange [0 : *]
        unset arrow
        set arrow 1 from first handed(k), graph 0 to first handed(k), graph 1 nohead lc rgb "#1f5fa8" dt (6, 5) lw 1
        if (both) {
            set arrow 2 from first handed(k + 1), graph 0 to first handed(k + 1), graph 1 nohead \
                lc rgb "#d08a1d" dt (6, 5) lw 1
            plot data index 2 * k + 3 using 1:($2 < 100 ? 100 : $2) with lines lw 1.3 lc rgb "#d08a1d", \
                 data index 2 * k + 1 using 1:($2 < 100 ? 100 : $2) with lines lw 1.3 lc rgb "#1f5fa8"
        } else {
            plot data index 2 * k + 1 using 1:($2 < 100 ? 100 : $2) with lines lw 1.3 lc rgb "#1f5fa8"
        }
        unset label 11
        unset label 12
        unset label 13
        k = k + (both ? 2 : 1)
    }
    unset multiplot
    unset output
}
