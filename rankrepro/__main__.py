from rankrepro.cli import main

main()
